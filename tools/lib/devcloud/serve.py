"""Runs inside the Python environment of the cloud: its WSGI applications, its stand-ins, its management programs.

serve.py app MODULE:ATTRIBUTE PORT   serves a WSGI application
serve.py neutron PORT                a network API without networks: nova asks it even for servers without any
serve.py glance PORT IMAGE           an image API with one empty image of that id
serve.py manage MODULE -- ARGUMENT... [-- ARGUMENT...]...
                                     runs commands of a management program, one after the other
"""

import importlib
import json
import os
import signal
import sys
import uuid

IMAGE_SCHEMA = (
    "id name status visibility owner size virtual_size min_ram min_disk protected tags checksum os_hidden disk_format "
    "container_format created_at updated_at file self schema"
).split()
ALREADY_THERE = 2
"""What nova-manage says of a cell that exists."""


def listen(application, port):
    """Serves until it is told to end; there is nothing to finish."""
    import waitress

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    waitress.serve(application, host="127.0.0.1", port=int(port), ident=None, threads=8)


def app(name, port):
    """The application reads the arguments while it is imported: there are none for it."""
    module, attribute = name.split(":")
    sys.argv = [module.split(".")[0]]
    listen(getattr(importlib.import_module(module), attribute), port)


def answer(start, status, body=None):
    """A reply in JSON."""
    data = b"" if body is None else json.dumps(body).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


def words(environ):
    """The parts of the path."""
    return [word for word in environ["PATH_INFO"].split("/") if word]


def neutron(port):
    """Everything is empty."""

    def application(environ, start):
        path, method = words(environ), environ["REQUEST_METHOD"]
        if not path:
            return answer(start, "200 OK", {"versions": [{"id": "v2.0", "status": "CURRENT", "links": []}]})
        if method == "GET" and len(path) == 2:
            return answer(start, "200 OK", {path[1].replace("-", "_"): []})
        if method == "DELETE":
            return answer(start, "204 No Content")
        return answer(start, "404 Not Found", {"NeutronError": {"type": "NotFound", "message": "none", "detail": ""}})

    listen(application, port)


def glance(port, image):
    """One image, without a byte, and what nova adds when it shelves a server."""
    made = "2026-01-01T00:00:00Z"

    def described(number, **more):
        known = {
            "id": number, "name": "nothing", "status": "active", "visibility": "public", "owner": None, "size": 1,
            "virtual_size": 1, "min_ram": 0, "min_disk": 0, "protected": False, "tags": [], "checksum": None,
            "os_hidden": False, "disk_format": "raw", "container_format": "bare", "created_at": made,
            "updated_at": made, "file": f"/v2/images/{number}/file", "self": f"/v2/images/{number}",
            "schema": "/v2/schemas/image",
        }  # fmt: skip
        return known | more

    images = {image: described(image)}
    schema = {
        "name": "image",
        "additionalProperties": {"type": "string"},
        "properties": {name: {} for name in IMAGE_SCHEMA},
        "links": [],
    }

    def application(environ, start):
        path, method = words(environ), environ["REQUEST_METHOD"]
        if not path or path == ["versions"]:
            link = {"rel": "self", "href": f"http://127.0.0.1:{port}/v2/"}
            version = {"id": "v2.16", "status": "CURRENT", "links": [link]}
            return answer(start, "300 Multiple Choices", {"versions": [version]})
        if path[:2] == ["v2", "schemas"]:
            return answer(start, "200 OK", schema)
        if path == ["v2", "images"] and method == "POST":
            body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            number = body.pop("id", None) or str(uuid.uuid4())
            images[number] = described(number, **body)
            return answer(start, "201 Created", images[number])
        if path == ["v2", "images"]:
            listed = {"images": list(images.values()), "schema": "/v2/schemas/images", "first": "/v2/images"}
            return answer(start, "200 OK", listed)
        if path[:2] == ["v2", "images"] and len(path) == 3 and path[2] in images:
            if method == "DELETE":
                del images[path[2]]
                return answer(start, "204 No Content")
            return answer(start, "200 OK", images[path[2]])
        return answer(start, "404 Not Found", {"message": "there is no such image"})

    listen(application, port)


def manage(module, *rest):
    """To import one of these programs takes seconds, its commands a fraction of that: one import, a fork a command."""
    program = {"nova": "nova-manage", "keystone": "keystone-manage"}[module.split(".")[0]]
    sys.argv = [program]
    main = importlib.import_module(module).main
    groups = []
    for word in rest:
        if word == "--":
            groups.append([])
        else:
            groups[-1].append(word)
    for group in groups:
        print(f"$ {program} {' '.join(group)}", flush=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sys.argv = [program, *group]
                code = main() or 0
            except SystemExit as end:
                code = end.code or 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code if isinstance(code, int) else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code and not (code == ALREADY_THERE and "create_cell" in group):
            sys.exit(f"{program} {group[0]} exited with {code}")


if __name__ == "__main__":
    {"app": app, "neutron": neutron, "glance": glance, "manage": manage}[sys.argv[1]](*sys.argv[2:])
