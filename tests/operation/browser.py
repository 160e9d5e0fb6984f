"""Drives a headless Chromium over its debugging pipe and prints what it saw as JSON: no packages are needed.

usage: browser.py CHROMIUM URL PROFILE STEPS
STEPS is a JSON list of [name, argument]:
  size [width, height]   the window          theme "dark" | "light"
  wait EXPRESSION        until it is true     value EXPRESSION   its value, printed in order
  key KEY                a key press          type TEXT          text into what has the focus
  shot FILE              a screenshot
How it fails: an exception that says which step waited in vain; what the page said on its console is printed all the same.
"""

import base64, json, os, subprocess, sys, time

PATIENCE = 30


class Browser:
    def __init__(self, program, profile):
        to_read, to = os.pipe()
        back, back_write = os.pipe()

        def descriptors():
            # The pipe is descriptors 3 and 4; they may be taken by our own ends, so first both go out of the way.
            a, b = os.dup(to_read), os.dup(back_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.child = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe",
             "--disable-dev-shm-usage", "--force-color-profile=srgb", "--user-data-dir=" + profile, "about:blank"],
            preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(back_write)
        self.to, self.back, self.waiting = to, back, b""
        self.number, self.session = 0, None
        self.console, self.requests = [], []

    def message(self, until):
        while b"\0" not in self.waiting:
            if time.time() > until:
                raise TimeoutError("the browser says nothing")
            part = os.read(self.back, 1 << 16)
            if not part:
                raise EOFError("the browser has ended")
            self.waiting += part
        text, self.waiting = self.waiting.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **params):
        self.number += 1
        wanted = self.number
        request = {"id": wanted, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        until = time.time() + PATIENCE
        while True:
            said = self.message(until)
            if said.get("id") == wanted:
                if "error" in said:
                    raise RuntimeError(method + ": " + said["error"]["message"])
                return said["result"]
            self.event(said)

    def event(self, said):
        method, params = said.get("method"), said.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.console.append(params["type"] + ": " + " ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.console.append("log: " + params["entry"]["text"] + " " + params["entry"].get("url", ""))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(expression + ": " + answer["exceptionDetails"].get("exception", {}).get("description", "?"))
        return answer["result"].get("value")

    def wait(self, expression):
        until = time.time() + PATIENCE
        while not self.value(expression):
            if time.time() > until:
                raise TimeoutError("waited in vain for " + expression)
            time.sleep(0.1)

    def key(self, key):
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        more = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes.get(key, ord(key[0])), **(more if kind == "keyDown" else {}))


def main():
    program, url, profile, steps = sys.argv[1:5]
    browser = Browser(program, profile)
    values, failure = [], None
    try:
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(domain + ".enable")
        browser.call("Security.setIgnoreCertificateErrors", ignore=True)
        browser.call("Page.navigate", url=url)
        for name, argument in json.loads(steps):
            if name == "size":
                browser.call("Emulation.setDeviceMetricsOverride", width=argument[0], height=argument[1], deviceScaleFactor=1, mobile=False)
            elif name == "theme":
                browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": argument}])
            elif name == "wait":
                browser.wait(argument)
            elif name == "value":
                values.append(browser.value(argument))
            elif name == "key":
                browser.key(argument)
            elif name == "type":
                browser.call("Input.insertText", text=argument)
            elif name == "shot":
                data = browser.call("Page.captureScreenshot", format="png")["data"]
                with open(argument, "wb") as file:
                    file.write(base64.b64decode(data))
            else:
                raise ValueError("no step " + name)
    except Exception as error:
        failure = "%s: %s" % (type(error).__name__, error)
    finally:
        browser.child.kill()
        browser.child.wait()
    print(json.dumps({"values": values, "console": browser.console, "requests": browser.requests, "failure": failure}))


main()
