//! Pictures as files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::run::Run;
use super::sections::{self, Block};

/// Letters for machines without a font, as servers are: the usual European ones of DejaVu Sans.
const FONT: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");
/// Pixels of a PNG for each of the drawing's, so that it is sharp on paper, too.
const SCALE: f32 = 2.0;

/// Why pictures were not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The system refuses.
    #[error("cannot write to {}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// A picture cannot be drawn, which is a fault of this program.
    #[error("cannot draw {}: {reason}", path.display())]
    Draw {
        /// The file.
        path: PathBuf,
        /// What the renderer says.
        reason: String,
    },
}

/// Writes every picture of the report of these runs to a directory, which is made if it is missing: as SVG and as PNG.
/// Files of the same names are replaced. Returns what was written.
///
/// # Errors
/// The first file that cannot be written.
pub fn export(runs: &[Run], directory: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| ExportError::Io { path, error }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    // For letters of other scripts, in names of files.
    fonts.load_system_fonts();
    let options =
        usvg::Options { fontdb: Arc::new(fonts), font_family: "DejaVu Sans".to_owned(), ..Default::default() };
    let mut written = Vec::new();
    let blocks = sections::all(runs).into_iter().flat_map(|section| section.blocks);
    let pictures = blocks.flat_map(|block| match block {
        Block::Picture(picture) => vec![picture],
        Block::Panels(pictures) => pictures,
        Block::Text(_) | Block::Table(_) => Vec::new(),
    });
    for picture in pictures {
        let (svg, ..) = picture.file();
        let path = directory.join(format!("{}.svg", picture.id));
        fs::write(&path, &svg).map_err(failed(&path))?;
        let png_path = directory.join(format!("{}.png", picture.id));
        let png = png(&svg, &options).map_err(|reason| ExportError::Draw { path: png_path.clone(), reason })?;
        fs::write(&png_path, png).map_err(failed(&png_path))?;
        written.extend([path, png_path]);
    }
    Ok(written)
}

fn png(svg: &str, options: &usvg::Options<'_>) -> Result<Vec<u8>, String> {
    let tree = usvg::Tree::from_str(svg, options).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("it has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or("it is too large")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}
