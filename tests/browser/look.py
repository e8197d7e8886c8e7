#!/usr/bin/env python3
"""Opens a report in headless Chromium and says what is wrong with how it looks.

usage: look.py PAGE.html OUTPUT-DIRECTORY

Loads the page at 1280 and 360 pixels, by day and by night, and prints it to PDF, all into the directory. For each size:
every figure shows one picture of a size above 0; no text in it is cut, or on another; the page does not scroll sideways;
nothing is asked of the network, and the console is silent; every picture has a role, a name and a description; letters
are at least 9 pixels high and stand out from what is behind them.

Prints one line for each fault, and exits with 1 if there is one. Speaks the DevTools protocol over a pipe (file
descriptors 3 and 4 of the browser), so it needs no library.
"""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

TIMEOUT_S = 60

LOOK = r"""
(() => {
  const faults = [], seen = [];
  const visible = element => element.getClientRects().length > 0;
  for (const figure of document.querySelectorAll('figure')) {
    const pictures = [...figure.querySelectorAll('svg')].filter(visible);
    if (pictures.length !== 1) { faults.push(`${figure.id}: ${pictures.length} pictures are to be seen`); continue; }
    const svg = pictures[0], box = svg.getBoundingClientRect();
    seen.push(figure.id);
    if (!(box.width > 100 && box.height > 40)) faults.push(`${figure.id}: ${box.width} x ${box.height} pixels`);
    if (!(svg.querySelectorAll('path.line, rect, line.mark').length > 0)) faults.push(`${figure.id}: nothing is drawn`);
    const caption = figure.querySelector('figcaption');
    if (!caption || !caption.textContent.trim()) faults.push(`${figure.id}: no caption`);
    for (const kind of ['title', 'desc'])
      if (!(svg.querySelector(kind)?.textContent.trim())) faults.push(`${figure.id}: no ${kind}`);
    const texts = [...svg.querySelectorAll('text')].map(text => ({text, box: text.getBoundingClientRect()}));
    for (const {text, box: of} of texts) {
      const out = Math.max(box.left - of.left, of.right - box.right, box.top - of.top, of.bottom - box.bottom);
      if (out > 0.5) faults.push(`${figure.id}: "${text.textContent}" is ${out.toFixed(1)} pixels outside`);
      const size = parseFloat(getComputedStyle(text).fontSize) * box.width / svg.viewBox.baseVal.width;
      if (size < 9) faults.push(`${figure.id}: "${text.textContent}" is ${size.toFixed(1)} pixels high`);
    }
    texts.forEach((one, at) => texts.slice(at + 1).forEach(other => {
      const width = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const height = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      if (width > 1 && height > 3)
        faults.push(`${figure.id}: "${one.text.textContent}" and "${other.text.textContent}" overlap`);
    }));
    for (const shape of svg.querySelectorAll('rect, path.line, circle')) {
      if (shape.closest('defs')) continue;
      const of = shape.getBBox(), view = svg.viewBox.baseVal;
      if (of.x < -1 || of.y < -1 || of.x + of.width > view.width + 1 || of.y + of.height > view.height + 1)
        faults.push(`${figure.id}: a ${shape.tagName} is outside`);
    }
  }
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`the page is ${wide} pixels wider than its window`);
  const levels = [...document.querySelectorAll('h1,h2,h3,h4')].map(heading => +heading.tagName[1]);
  levels.forEach((level, at) => {
    if (level > (levels[at - 1] ?? 0) + 1) faults.push(`a heading of level ${level} comes after ${levels[at - 1]}`);
  });
  if (levels.filter(level => level === 1).length !== 1) faults.push('not one heading of level 1');
  const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
  if (twice.length) faults.push(`ids that are there twice: ${twice.slice(0, 5)}`);
  for (const element of document.querySelectorAll('[aria-labelledby],[aria-describedby]'))
    for (const id of `${element.getAttribute('aria-labelledby') ?? ''} ${element.getAttribute('aria-describedby') ?? ''}`.split(' '))
      if (id && !document.getElementById(id)) faults.push(`${id} is named, but not there`);
  for (const link of document.querySelectorAll('a[href^="#"]'))
    if (!document.getElementById(link.getAttribute('href').slice(1))) faults.push(`${link.getAttribute('href')} leads nowhere`);
  // Contrast by WCAG 2, of letters and what is behind them.
  const numbers = color => (color.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = color => {
    const [r, g, b] = numbers(color).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor, parts = numbers(color);
      if (parts.length === 3 || parts[3] > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const poor = new Set();
  for (const element of document.querySelectorAll('h1,h2,h3,p,a,dt,dd,th,td,caption,figcaption,svg text')) {
    if (!visible(element)) continue;
    const style = getComputedStyle(element);
    const [one, other] = [luminance(element.tagName === 'text' ? style.fill : style.color), luminance(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) poor.add(`${element.tagName}: contrast of ${contrast.toFixed(2)}`);
  }
  faults.push(...poor);
  return {faults, seen, height: document.documentElement.scrollHeight};
})()
"""


class Browser:
    """A headless Chromium, spoken to over a pipe."""

    def __init__(self, home):
        to_read, self.to = os.pipe()
        self.source, to_write = os.pipe()

        def connect():
            # Both ends may be where the other has to be.
            read, write = os.dup(to_read), os.dup(to_write)
            os.dup2(read, 3)
            os.dup2(write, 4)

        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            sys.exit("look.py: chromium is not installed")
        self.log = open(os.path.join(home, "log"), "wb")
        self.process = subprocess.Popen(
            [program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking", "--no-proxy-server",
             f"--user-data-dir={home}/profile"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, close_fds=False, preexec_fn=connect,
            env={**os.environ, "HOME": home}, start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self.rest = b""
        self.number = 0
        self.session = None
        self.events = []

    def receive(self, until):
        parts = [self.rest]
        while b"\0" not in parts[-1]:
            if not select.select([self.source], [], [], max(0, until - time.monotonic()))[0]:
                sys.exit("look.py: the browser does not answer")
            more = os.read(self.source, 1 << 20)
            if not more:
                sys.exit("look.py: the browser has ended:\n" + open(self.log.name, errors="replace").read()[-2000:])
            parts.append(more)
        message, self.rest = b"".join(parts).split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        until = time.monotonic() + TIMEOUT_S
        while True:
            answer = self.receive(until)
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"look.py: {method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def wait_for(self, method):
        until = time.monotonic() + TIMEOUT_S
        while not any(event["method"] == method for event in self.events):
            message = self.receive(until)
            if "method" in message:
                self.events.append(message)

    def close(self):
        try:
            self.session = None
            self.ask("Browser.close")
            self.process.wait(timeout=10)
        except (SystemExit, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


def look(browser, url, directory):
    """Everything that is wrong, a line each."""
    faults = []
    target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
    browser.session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Runtime", "Log"):
        browser.ask(f"{domain}.enable")
    figures = None
    for width in (1280, 360):
        browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        for scheme in ("light", "dark"):
            browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser.events = []
            browser.ask("Page.navigate", url=url)
            browser.wait_for("Page.loadEventFired")
            result = browser.ask("Runtime.evaluate", expression=LOOK, returnByValue=True)
            if "exceptionDetails" in result:
                sys.exit(f"look.py: {result['exceptionDetails']}")
            found = result["result"]["value"]
            where = f"{width} pixels, {scheme}"
            faults += [f"{where}: {fault}" for fault in found["faults"]]
            faults += [f"{where}: {fault}" for fault in from_events(browser.events, url)]
            if figures is None:
                figures = found["seen"]
            if figures != found["seen"]:
                faults.append(f"{where}: other figures than at first: {found['seen']}")
            height = min(int(found["height"]), 16000)
            browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
            picture = browser.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            save(directory, f"{width}-{scheme}.png", picture["data"])
            browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    faults += heard(browser, len(figures))
    pdf = base64.b64decode(browser.ask("Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69)["data"])
    with open(os.path.join(directory, "page.pdf"), "wb") as file:
        file.write(pdf)
    if not pdf.startswith(b"%PDF-") or b"/Type /Page" not in pdf and b"/Type/Page" not in pdf:
        faults.append("printed: no page came out")
    print(f"{len(figures)} figures, {len(re.findall(rb'/Type ?/Page[^s]', pdf))} pages on paper")
    return faults


def from_events(events, url):
    for event in events:
        parameters = event["params"]
        if event["method"] == "Network.requestWillBeSent" and parameters["request"]["url"] != url:
            yield f"it asks for {parameters['request']['url']}"
        if event["method"] == "Log.entryAdded":
            yield f"the browser complains: {parameters['entry']['text']}"
        if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            yield "it runs a script"


def heard(browser, figures):
    """What a screen reader gets: each picture with its name and description, tables with captions."""
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    of = lambda role: [node for node in nodes if not node.get("ignored") and node.get("role", {}).get("value") == role]
    images = of("image") + of("img")
    if len(images) != figures:
        yield f"a screen reader finds {len(images)} pictures of {figures}"
    for image in images:
        for part in ("name", "description"):
            if not image.get(part, {}).get("value"):
                yield f"a screen reader finds a picture without {part}"
    for table in of("table"):
        if not table.get("name", {}).get("value"):
            yield "a screen reader finds a table without name"
    if not of("main"):
        yield "a screen reader finds no main part"


def save(directory, name, data):
    with open(os.path.join(directory, name), "wb") as file:
        file.write(base64.b64decode(data))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    page, directory = map(os.path.abspath, sys.argv[1:])
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pointsman-browser-", ignore_cleanup_errors=True) as home:
        browser = Browser(home)
        try:
            faults = look(browser, "file://" + page, directory)
        finally:
            browser.close()
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


main()
