"""The page as a visitor sees it."""

from __future__ import annotations

import base64
import time

WAIT_S = 180


class Visit:
    """The page at an address, freshly opened in ``driver`` (the fixture ``chromium``)."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        driver.set_window_size(1360, 900)
        driver.get(f"{address}/")
        driver.execute_script("localStorage.clear(); sessionStorage.clear()")
        driver.get(f"{address}/")
        driver.get_log("browser")
        self.until(lambda: self.script("return document.documentElement.lang") == "en", "the page spoke")

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def one(self, css):
        return self.driver.find_element("css selector", css)

    def until(self, true, what):
        end = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < end, f"not within {WAIT_S} s: {what}"
            time.sleep(0.05)

    def put(self, *files):
        """Hands files to the page as the file chooser would."""
        self.one("#files").send_keys("\n".join(map(str, files)))

    def drop(self, name, data):
        """Drops a file on the page, as a hand would."""
        self._hand(
            """for (const kind of ["dragenter", "dragover", "drop"])
                 document.body.dispatchEvent(
                   new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: files}));""",
            name,
            data,
        )

    def paste(self, name, data):
        """Pastes a file from the clipboard."""
        self._hand(
            """document.body.dispatchEvent(new ClipboardEvent("paste", {bubbles: true, clipboardData: files}));""",
            name,
            data,
        )

    def _hand(self, script, name, data):
        """Runs ``script`` with the file in ``files``, as drag and clipboard events carry it."""
        self.script(
            """const bytes = Uint8Array.from(atob(arguments[1]), c => c.charCodeAt(0));
               const files = new DataTransfer();
               files.items.add(new File([bytes], arguments[0], {type: "image/jpeg"}));"""
            + script,
            name,
            base64.b64encode(data).decode(),
        )

    def state(self):
        return self.one("#stage").get_attribute("data-state")

    def until_done(self):
        self.until(lambda: self.state() in ("done", "failed"), "the photo was cut")
        assert self.state() == "done", self.one("#veil-text").text
        self.until(
            lambda: self.script(
                "return !document.querySelector('#after').hidden && document.querySelector('#after').width > 1"
            ),
            "it is shown",
        )

    def click(self, css):
        self.script("document.querySelector(arguments[0]).click()", css)

    def draw(self, kind, *places):
        """Draws a stroke by the browser's own input; places in shares of the picture, ``kind`` mouse, pen or touch."""
        left, top, width, height = self.script(
            "const b = document.querySelector('#marks').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
        )
        points = [{"x": left + x * width, "y": top + y * height} for x, y in places]

        def send(what, point):
            if kind == "touch":
                name = {"Pressed": "touchStart", "Moved": "touchMove", "Released": "touchEnd"}[what]
                touches = [] if what == "Released" else [point]
                self.driver.execute_cdp_cmd(
                    "Input.dispatchTouchEvent", {"type": name, "touchPoints": touches}
                )
            else:
                event = {"type": f"mouse{what}", "button": "left", "clickCount": 1, "pointerType": kind}
                self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"buttons": 1, **event, **point})

        send("Pressed", points[0])
        for point in points[1:]:
            send("Moved", point)
        send("Released", points[-1])

    def record_marks(self):
        """From now on, ``marks`` knows what is asked of the server or the page's worker."""
        self.script(
            """window.asked = [];
            const { append } = FormData.prototype, { postMessage } = Worker.prototype;
            FormData.prototype.append = function (name, ...rest) {
              if (["keep", "remove"].includes(name)) window.asked.push({ [name]: JSON.parse(rest[0]) });
              return append.call(this, name, ...rest);
            };
            Worker.prototype.postMessage = function (message, ...rest) {
              if (message.marks?.keep.length || message.marks?.remove.length) window.asked.push(message.marks);
              return postMessage.call(this, message, ...rest);
            };"""
        )

    def marks(self):
        """{"keep": [...], "remove": [...]}, or one of the two, of each request with marks since ``record_marks``."""
        return self.script("return window.asked")

    def pixel(self, canvas, x, y):
        """RGBA at a place given as shares of the canvas."""
        return self.script(
            """const c = document.querySelector(arguments[0]);
               const copy = new OffscreenCanvas(1, 1).getContext("2d");
               copy.drawImage(c, -Math.floor(arguments[1] * c.width), -Math.floor(arguments[2] * c.height));
               return [...copy.getImageData(0, 0, 1, 1).data];""",
            canvas, x, y,
        )  # fmt: skip

    def picture(self, canvas):
        """The canvas's alpha, uint8 (h, w) as lists."""
        width, *alpha = self.script(
            """const c = document.querySelector(arguments[0]);
               const copy = new OffscreenCanvas(c.width, c.height).getContext("2d");
               copy.drawImage(c, 0, 0);
               const { data } = copy.getImageData(0, 0, c.width, c.height), alpha = [c.width];
               for (let i = 3; i < data.length; i += 4) alpha.push(data[i]);
               return alpha;""",
            canvas,
        )
        return [alpha[row : row + width] for row in range(0, len(alpha), width)]

    def downloaded(self, press, name):
        """The bytes of the file that appears when ``press`` is clicked."""
        path = self.driver.downloads / name
        path.unlink(missing_ok=True)
        self.click(press)
        self.until(lambda: path.exists() and path.stat().st_size > 0, f"{name} was downloaded")
        return path.read_bytes()

    def complaints(self):
        """Warnings and errors of the console."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("WARNING", "SEVERE")]
