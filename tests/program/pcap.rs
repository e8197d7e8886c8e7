//! Capture files by hand (the format of libpcap's savefiles, pcap-savefile(5)), so that the program's own reader and
//! writer are not the measure of themselves.

/// How numbers and times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub big_endian: bool,
    pub nanoseconds: bool,
}

pub const USUAL: Format = Format { big_endian: false, nanoseconds: false };
pub const FORMATS: [Format; 4] = [
    USUAL,
    Format { big_endian: false, nanoseconds: true },
    Format { big_endian: true, nanoseconds: false },
    Format { big_endian: true, nanoseconds: true },
];

pub const ETHERNET: u32 = 1;
pub const LINUX_SLL: u32 = 113;
const HEADER_LEN: usize = 24;
const SNAPLEN: u32 = 65_535;

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub seconds: u32,
    /// In microseconds or nanoseconds.
    pub fraction: u32,
    /// Bytes that it had on the wire.
    pub original_len: u32,
    pub bytes: Vec<u8>,
}

/// The frame, captured as a whole at this time.
pub fn at(seconds: u32, fraction: u32, bytes: &[u8]) -> Captured {
    Captured { seconds, fraction, original_len: u32::try_from(bytes.len()).unwrap(), bytes: bytes.to_vec() }
}

/// The frames, one microsecond or nanosecond after the other.
pub fn in_turn<'a>(frames: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Captured> {
    (0..).zip(frames).map(|(number, frame)| at(1_700_000_000 + number / 1000, number % 1000, frame)).collect()
}

impl Format {
    fn magic(self) -> u32 {
        if self.nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }
    }

    fn word(self, value: u32) -> [u8; 4] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn half(self, value: u16) -> [u8; 2] {
        if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn header(self, link_type: u32) -> Vec<u8> {
        let mut header = self.word(self.magic()).to_vec();
        header.extend(self.half(2));
        header.extend(self.half(4));
        for word in [0, 0, SNAPLEN, link_type] {
            header.extend(self.word(word));
        }
        header
    }

    /// A file of these frames.
    pub fn file(self, link_type: u32, frames: &[Captured]) -> Vec<u8> {
        let mut file = self.header(link_type);
        for frame in frames {
            let captured_len = u32::try_from(frame.bytes.len()).unwrap();
            for word in [frame.seconds, frame.fraction, captured_len, frame.original_len] {
                file.extend(self.word(word));
            }
            file.extend(&frame.bytes);
        }
        file
    }

    /// The frames of an Ethernet file that must be of this format.
    pub fn frames(self, file: &[u8]) -> Vec<Captured> {
        let (head, mut rest) = file.split_at(HEADER_LEN);
        let expected = self.header(ETHERNET);
        assert_eq!((&head[..16], &head[20..]), (&expected[..16], &expected[20..]), "a header of {self:?}");
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let words: Vec<u32> = rest[..16]
                .chunks_exact(4)
                .map(|word| word.try_into().unwrap())
                .map(|word| if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
                .collect();
            let [seconds, fraction, captured_len, original_len] = words[..] else { unreachable!() };
            let (bytes, behind) = rest[16..].split_at(captured_len as usize);
            frames.push(Captured { seconds, fraction, original_len, bytes: bytes.to_vec() });
            rest = behind;
        }
        frames
    }
}
