"""serve.py NAME MODULE:ATTRIBUTE PORT THREADS [ARGUMENT...]: any WSGI application."""
import importlib
import sys

from waitress import serve

import kept_connections  # noqa: F401
from counted import counted

name, application, port, threads = sys.argv[1:5]
sys.argv = [sys.argv[0]] + sys.argv[5:]
module, attribute = application.split(":")
serve(
    counted(name, getattr(importlib.import_module(module), attribute)),
    listen="127.0.0.1:" + port,
    threads=int(threads),
    ident=None,
)
