"""A server that speaks as much of the Hugging Face hub's protocol as reading a head needs.

It serves the folders below one root as models `org/name`, revision `main` only, and remembers
how many bytes of each file it sent.
"""

import json
import re
from collections import Counter
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0" * 40


class Hub:
    def __init__(self, root: Path):
        self.sent: Counter[str] = Counter()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format, *args):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                path = self.path.partition("?")[0]
                if match := re.fullmatch(r"/api/models/(\w+/[\w-]+)(/revision/main)?", path):
                    return self.info(root / match[1])
                if match := re.fullmatch(r"/(\w+/[\w-]+)/resolve/(\w+)/(.+)", path):
                    file = root / match[1] / match[3]
                    if match[2] in ("main", COMMIT) and file.is_file():
                        return self.file(file, body)
                    if (root / match[1]).is_dir():
                        revision = match[2] not in ("main", COMMIT)
                        return self.missing("RevisionNotFound" if revision else "EntryNotFound")
                known = any((root / m).is_dir() for m in re.findall(r"org/[\w-]+", path))
                return self.missing("RevisionNotFound" if known else "RepoNotFound")

            def info(self, folder):
                if not folder.is_dir():
                    return self.missing("RepoNotFound")
                files = [{"rfilename": file.name} for file in folder.iterdir()]
                about = {"id": f"org/{folder.name}", "sha": COMMIT, "siblings": files}
                return self.send(200, json.dumps(about).encode(), {})

            def file(self, file, body):
                data = file.read_bytes()
                status, headers = (
                    200,
                    {"ETag": f'"{sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT},
                )
                if span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                    start, stop = int(span[1]), int(span[2]) + 1
                    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
                    status, data = 206, data[start:stop]
                if body:
                    hub.sent[file.name] += len(data)
                return self.send(status, data, headers, body=body)

            def missing(self, code):
                self.send(404, b"", {"X-Error-Code": code})

            def send(self, status, data, headers, body=True):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
