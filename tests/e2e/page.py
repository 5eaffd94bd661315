#!/usr/bin/env python3
"""Opens the report's pages in a real browser. Usage: page.py FOLDER (that report-samples made)

Needs Chromium (Debian: chromium), which `./dkdm test` installs where it may: without it this test is
skipped (exit code 77). Leaves screenshots in FOLDER/screenshots.
"""
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
VIEWS = {  # name: (width, height, phone)
    "1280": (1280, 900, False),
    "390": (390, 844, True),
}


class Browser:
    """Headless Chromium, spoken to over a pair of pipes in its DevTools protocol."""

    def __init__(self, program, profile):
        to_browser, self.out = os.pipe()
        self.inp, from_browser = os.pipe()
        # The protocol's descriptors are 3 and 4 by definition; a shell puts them there.
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "browser", program,
             "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--remote-debugging-pipe", "--no-first-run", "--disable-extensions",
             "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}",
             "--host-resolver-rules=MAP * ~NOTFOUND"],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(domain + ".enable")

    def receive(self):
        while b"\0" not in self.buffer:
            chunk = os.read(self.inp, 1 << 16)
            if not chunk:
                sys.exit("page: the browser ended by itself")
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"page: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.receive())

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            sys.exit(f"page: {script[:80]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def open(self, file, view, dark=False, script=True):
        width, height, phone = VIEWS[view]
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Page.navigate", url=file.as_uri())
        self.wait_for("Page.loadEventFired")
        if script and not file.exists():
            sys.exit(f"page: {file} does not exist")

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            extra = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, **extra)

    def screenshot(self, file, whole=True):
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self.session = None
        self.number += 1
        os.write(self.out, json.dumps({"id": self.number, "method": "Browser.close"}).encode() + b"\0")
        self.process.wait(timeout=30)


failures = []


def check(holds, what):
    if not holds:
        failures.append(what)
        print("FAILED:", what)


def check_quiet(browser, name):
    """No error, no refused script, no request but for the file itself."""
    browser.evaluate("new Promise(done => setTimeout(done, 100))")
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            check(False, f"{name}: exception {params['exceptionDetails']}")
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            check(False, f"{name}: console {params['args']}")
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            check(False, f"{name}: log {params['entry']['text']}")
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            check(url.startswith(("file:", "data:")), f"{name}: asks the network for {url[:100]}")


# Each text node's colour against what is painted behind it (WCAG 2.1, 1.4.3; 3:1 for large text).
CONTRAST = """(() => {
  const channels = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || ['SCRIPT', 'STYLE'].includes(e.tagName) || !e.checkVisibility()) continue;
    const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
    const a = light(channels(svg ? style.fill : style.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(n.data.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return [...new Set(poor)];
})()"""

# What cannot be named by a screen reader, or breaks its rules.
UNNAMED = """(() => {
  const bad = [];
  const add = (e, why) => bad.push(why + ': ' + e.outerHTML.slice(0, 80));
  for (const e of document.querySelectorAll('table')) {
    if (!e.caption || !e.caption.textContent.trim()) add(e, 'table without caption');
    for (const h of e.querySelectorAll('th')) if (!h.scope) add(h, 'header without scope');
  }
  for (const e of document.querySelectorAll('img')) if (!e.alt) add(e, 'picture without text');
  for (const e of document.querySelectorAll('canvas:not([aria-hidden]), svg:not([aria-hidden])'))
    if (!e.getAttribute('aria-label')) add(e, 'drawing without text');
  for (const e of document.querySelectorAll('[role=region], [role=group], nav'))
    if (!e.getAttribute('aria-label')) add(e, 'region without name');
  for (const e of document.querySelectorAll('button, a, summary'))
    if (!e.textContent.trim()) add(e, 'control without name');
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  if (new Set(ids).size !== ids.length) bad.push('an id twice');
  let level = 0;
  for (const e of document.querySelectorAll('h1, h2, h3, h4')) {
    const now = Number(e.tagName[1]);
    if (now > level + 1) add(e, 'heading level skipped');
    level = now;
  }
  if (!document.documentElement.lang) bad.push('no language');
  return bad;
})()"""

BROKEN_LINKS = """[...document.querySelectorAll('a')].filter(a => !a.getAttribute('href').startsWith('#') ||
    !document.getElementById(a.getAttribute('href').slice(1))).map(a => a.outerHTML.slice(0, 100))"""


def check_looks(browser, file, shots):
    for view in VIEWS:
        for dark in (False, True):
            name = f"{file.stem}-{view}-{'dark' if dark else 'light'}"
            browser.open(file, view, dark)
            width = browser.evaluate("document.documentElement.scrollWidth - innerWidth")
            check(width <= 0, f"{name}: the page itself scrolls sideways by {width} pixels")
            browser.screenshot(shots / (name + ".png"))
            browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            width = browser.evaluate("document.documentElement.scrollWidth - innerWidth")
            check(width <= 0, f"{name}: opened, the page scrolls sideways by {width} pixels")
            poor = browser.evaluate(CONTRAST)
            check(not poor, f"{name}: contrast below 4.5: {poor[:5]}")
            background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            check((background == "rgb(255, 255, 255)") != dark, f"{name}: background {background}")
            check_quiet(browser, name)


def check_structure(browser, file):
    browser.open(file, "1280")
    for problem in browser.evaluate(UNNAMED):
        check(False, f"{file.stem}: {problem}")
    for link in browser.evaluate(BROKEN_LINKS):
        check(False, f"{file.stem}: leads nowhere: {link}")
    check(browser.evaluate("document.querySelectorAll('td a').length") > 0, f"{file.stem}: no cell leads to runs")


def check_links(browser, file):
    """A cell leads to its row, a run's link opens the run."""
    browser.open(file, "1280")
    browser.evaluate("document.querySelector('td a').click()")
    browser.evaluate("new Promise(done => setTimeout(done, 50))")
    seen = browser.evaluate("(() => { const r = document.querySelector(location.hash).getBoundingClientRect();"
                            "return r.top >= 0 && r.top < innerHeight; })()")
    check(seen, "a cell's link does not bring its runs into view")
    browser.evaluate("document.querySelector('figcaption a').click()")
    browser.evaluate("new Promise(done => setTimeout(done, 50))")
    check(browser.evaluate("document.querySelector(location.hash).open"), "a link to a run does not open it")


def check_keyboard(browser, file, shots):
    """Tab goes through everything in reading order; Enter works; the place is visible."""
    browser.open(file, "1280")
    browser.evaluate("window.everything = [...document.querySelectorAll("
                     "'a[href], button, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility())")
    count = browser.evaluate("everything.length")
    order, ringed = [], True
    for _ in range(min(count, 60)):
        browser.press("Tab", 9)
        order.append(browser.evaluate("everything.indexOf(document.activeElement)"))
        ringed = ringed and browser.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
    check(order == sorted(order) and len(set(order)) == len(order) and order[0] == 0,
          f"the tab key's order is not the reading order: {order}")
    check(ringed, "the element that has the keyboard does not show it")
    check(browser.evaluate("(() => { everything[0].focus(); return everything[0].getBoundingClientRect().left >= 0; })()"),
          "the skip link stays hidden when it has the keyboard")

    keys = browser.evaluate("[...document.querySelector('figure.chart .legend').querySelectorAll('canvas')]"
                            ".map(key => key.toDataURL())")
    check(len(keys) > 1 and len(set(keys)) == len(keys), "two curves of a chart have the same key")
    toggle = "document.querySelector('figure.chart .legend button')"
    browser.evaluate(toggle + ".focus()")
    before = browser.evaluate("document.querySelector('canvas').toDataURL()")
    browser.press("Enter", 13)
    check(browser.evaluate(toggle + ".getAttribute('aria-pressed')") == "false", "Enter does not hide a curve")
    after = browser.evaluate("document.querySelector('canvas').toDataURL()")
    check(before != after, "a hidden curve is still drawn")


def check_hover(browser, file, shots):
    browser.open(file, "1280")
    browser.evaluate("document.querySelector('canvas').scrollIntoView({block: 'center'})")
    x, y = browser.evaluate("(() => { const r = document.querySelector('canvas').getBoundingClientRect();"
                            "return [r.left + r.width / 2, r.top + r.height / 2]; })()")
    before = browser.evaluate("document.querySelector('canvas').toDataURL()")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.evaluate("new Promise(done => setTimeout(done, 200))")
    check(before != browser.evaluate("document.querySelector('canvas').toDataURL()"), "hovering shows nothing")
    browser.screenshot(shots / "hover.png", whole=False)


def show_run(browser, file, shots):
    """For the eyes alone: what a run's section looks like."""
    for view in VIEWS:
        browser.open(file, view, dark=True)
        browser.evaluate("document.querySelector('.run').open = true; location.hash = 'row-1-1'")
        browser.evaluate("new Promise(done => setTimeout(done, 50))")
        browser.screenshot(shots / f"run-{view}.png", whole=False)


def check_print(browser, file, shots):
    """On paper: light, nothing closed, nothing cut off at the side or below, drawings and no canvas."""
    paper = {"width": 703, "height": 1000}  # A4 within its margins, at 96 pixels an inch
    browser.open(file, "1280", dark=True)
    browser.call("Emulation.setDeviceMetricsOverride", deviceScaleFactor=1, mobile=False, **paper)
    browser.call("Emulation.setEmulatedMedia", media="print",
                 features=[{"name": "prefers-color-scheme", "value": "dark"}])
    name = f"{file.stem}-print"
    browser.screenshot(shots / (name + ".png"))
    check(browser.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, f"{name}: wider than the paper")
    cut = browser.evaluate("[...document.querySelectorAll('.wide, pre')].filter(e => e.checkVisibility() && "
                           "(e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1 || "
                           "e.getBoundingClientRect().right > innerWidth + 1))"
                           ".map(e => e.scrollWidth + ' of ' + e.clientWidth + ': ' + e.textContent.slice(0, 60))")
    check(not cut, f"{name}: cut off: {cut[:3]}")
    closed = browser.evaluate("[...document.querySelectorAll('details > :not(summary)')]"
                              ".filter(e => !e.checkVisibility()).length")
    check(closed == 0, f"{name}: {closed} closed parts are not printed")
    check(browser.evaluate("[...document.querySelectorAll('canvas')].every(e => !e.checkVisibility())"),
          f"{name}: a canvas is printed")
    drawn = browser.evaluate("[...document.querySelectorAll('figure.chart')].every(e => "
                             "[...e.querySelectorAll('svg')].some(s => s.checkVisibility()))")
    check(drawn, f"{name}: a chart without its drawing")
    light = browser.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--page')")
    check(light.strip() == "#fff", f"{name}: dark paper {light}")
    pdf = browser.call("Page.printToPDF", printBackground=True)["data"]
    (shots / (name + ".pdf")).write_bytes(base64.b64decode(pdf))
    browser.call("Emulation.setEmulatedMedia", media="")


# The colour that each label has, wherever the page shows it with its key or as a curve.
COLOURS = """(() => {
  const found = {};
  const note = (label, e) => {
    const c = getComputedStyle(e).getPropertyValue('--c') + (e.closest('.dashed') ? ' dashed' : '');
    (found[label.trim()] ||= new Set()).add(c);
  };
  for (const key of document.querySelectorAll('.key')) note(key.parentElement.querySelector('bdi').textContent, key);
  for (const bar of document.querySelectorAll('table.bars tbody tr')) note(bar.querySelector('bdi').textContent, bar);
  return Object.entries(found).filter(([label, colours]) => colours.size > 1 && !label.startsWith('ρ'))
      .map(([label, colours]) => label.slice(0, 40) + ': ' + [...colours]);
})()"""


def check_without_script(browser, file, shots):
    browser.open(file, "1280", script=False)
    browser.screenshot(shots / (file.stem + "-no-script.png"))
    # DevTools' own scripts are off as well: the tree of the page says what is there.
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in nodes]
    check("table" in roles, "without script: no table")
    drawings = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img")
                and "by training step" in node.get("name", {}).get("value", "")]
    check(drawings, "without script: no drawing of the curves")
    check("Canvas" not in roles, "without script: an empty canvas")


def main():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        print("skipped: no Chromium here (Debian: apt-get install chromium)")
        return SKIPPED
    folder = pathlib.Path(sys.argv[1]).resolve()
    shots = folder / "screenshots"
    shots.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(program, profile)
        for page in (folder / "report.html", folder / "hostile.html"):
            check_looks(browser, page, shots)
            check_structure(browser, page)
            check_print(browser, page, shots)
            colours = browser.evaluate(COLOURS)
            check(not colours, f"{page.stem}: labels of several colours: {colours[:3]}")
            check(browser.evaluate("document.title") != "owned", "a name ran as a script")
        report = folder / "report.html"
        check_links(browser, report)
        check_keyboard(browser, report, shots)
        check_hover(browser, report, shots)
        show_run(browser, report, shots)
        check_without_script(browser, report, shots)
        browser.close()
    print(f"page: {len(failures)} failures; screenshots in {shots}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
