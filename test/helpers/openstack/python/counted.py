"""Wraps a WSGI application: notes users' requests in requests.log, and answers some of them as faults/ says."""
import glob
import os
import threading

LOCK = threading.Lock()


def counted(name, app):
    def wrapped(environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
        query = environ.get("QUERY_STRING")
        line = "%s %s %s%s" % (name, method, path, "?" + query if query else "")
        # What the services ask each other is nobody's business.
        if "python" in environ.get("HTTP_USER_AGENT", ""):
            return app(environ, start_response)
        fault = fault_for(name, method)
        with LOCK, open("requests.log", "a") as log:
            log.write("%s%s\n" % (line, " " + fault[0].split()[0] if fault else ""))
        if fault is None:
            return app(environ, start_response)
        status, headers = fault
        start_response(status, [("Content-Type", "text/plain")] + headers)
        return [b"no, not now\n"]

    return wrapped


def fault_for(name, method):
    """Of faults/NAME-METHOD.N with the lowest N: its first line is the status, the others are headers. Each holds once."""
    with LOCK:
        for path in sorted(glob.glob("faults/%s-%s.*" % (name, method))):
            with open(path) as file:
                lines = file.read().splitlines()
            os.remove(path)
            return lines[0], [tuple(line.split(": ", 1)) for line in lines[1:]]
    return None
