"""The cloud's APIs, asked as its administrator."""

import json
import urllib.error
import urllib.parse
import urllib.request

from .config import REGION
from .processes import until

MICROVERSIONS = {"nova": "compute 2.96", "placement": "placement 1.39"}


class Refused(Exception):
    """An API said no."""

    def __init__(self, method, url, status, body):
        super().__init__(f"{method} {url}: {status} {body[:500]}")
        self.status = status


class Api:
    """Keystone, nova and placement of one cloud."""

    def __init__(self, place):
        self.place = place
        self.token = None
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    # --- requests ---

    def ask(self, service, method, path, body=None, **query):
        """One request; the JSON of its answer. Raises `Refused`."""
        if self.token is None:
            self.log_in()
        base = {"keystone": "/v3", "nova": "/v2.1", "placement": ""}[service]
        url = self.place.url(service, base + path)
        if query:
            url += "?" + urllib.parse.urlencode(query)
        headers = {"X-Auth-Token": self.token, "Accept": "application/json"}
        if service in MICROVERSIONS:
            headers["OpenStack-API-Version"] = MICROVERSIONS[service]
        return self.send(method, url, body, headers)[0]

    def send(self, method, url, body, headers):
        """One request as it is: the JSON of its answer, and its headers."""
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers = headers | {"Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            # Nova waits a minute for a compute service that has just died.
            with self.opener.open(request, timeout=90) as answer:
                text = answer.read()
                return (json.loads(text) if text else None), answer.headers
        except urllib.error.HTTPError as error:
            raise Refused(method, url, error.code, error.read().decode(errors="replace")) from None

    def log_in(self):
        """Asks keystone for a token of the project admin."""
        domain = {"id": "default"}
        user = {"name": "admin", "domain": domain, "password": self.place.password}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": {"project": {"name": "admin", "domain": domain}}}}
        _, headers = self.send("POST", self.place.url("keystone", "/v3/auth/tokens"), body, {})
        self.token = headers["X-Subject-Token"]

    # --- what a cloud needs at first ---

    def seed(self):
        """The account of the services, and where the APIs are."""

        def ensure(kind, plural, **wanted):
            found = self.ask("keystone", "GET", f"/{plural}", name=wanted["name"])[plural]
            return found[0] if found else self.ask("keystone", "POST", f"/{plural}", {kind: wanted})[kind]

        project = ensure("project", "projects", name="service", domain_id="default")
        user = ensure("user", "users", name="service", domain_id="default", password=self.place.password)
        for name in ("admin", "service"):
            role = ensure("role", "roles", name=name)
            self.ask("keystone", "PUT", f"/projects/{project['id']}/users/{user['id']}/roles/{role['id']}")
        apis = {"compute": ("nova", "/v2.1"), "placement": ("placement", ""), "image": ("glance", "")}
        for kind, (name, path) in (apis | {"network": ("neutron", "")}).items():
            service = ensure("service", "services", name=name, type=kind)
            for interface in ("public", "internal"):
                address = {"service_id": service["id"], "interface": interface, "region_id": REGION}
                self.ask("keystone", "POST", "/endpoints", {"endpoint": address | {"url": self.place.url(name, path)}})

    # --- compute services ---

    def services(self):
        """Nova's records of compute services, by host."""
        listed = self.ask("nova", "GET", "/os-services", binary="nova-compute")["services"]
        return {service["host"]: service for service in listed}

    def update_service(self, host, **change):
        """As `openstack compute service set` does."""
        return self.ask("nova", "PUT", f"/os-services/{self.services()[host]['id']}", change)["service"]

    def delete_service(self, host):
        """As `openstack compute service delete` does."""
        self.ask("nova", "DELETE", f"/os-services/{self.services()[host]['id']}")

    def schedulable(self):
        """The hosts that servers can be placed on: those mapped to a cell, known to placement, and up."""
        # Not the details: nova would ask every compute service for its uptime.
        nodes = {node["hypervisor_hostname"] for node in self.ask("nova", "GET", "/os-hypervisors")["hypervisors"]}
        providers = self.ask("placement", "GET", "/resource_providers")["resource_providers"]
        up = {host for host, service in self.services().items() if service["state"] == "up"}
        return nodes & {provider["name"] for provider in providers} & up

    # --- flavors and servers ---

    def flavor(self, name, ram=64, **extra_specs):
        """Makes a small flavor; `ram` in MiB."""
        body = {"flavor": {"id": name, "name": name, "vcpus": 1, "ram": ram, "disk": 0}}
        self.ask("nova", "POST", "/flavors", body)
        if extra_specs:
            self.ask("nova", "POST", f"/flavors/{name}/os-extra_specs", {"extra_specs": extra_specs})
        return name

    def image(self, name):
        """Makes another empty image; its id."""
        body = {"name": name, "disk_format": "raw", "container_format": "bare"}
        return self.send("POST", self.place.url("glance", "/v2/images"), body, {})[0]["id"]

    def create(self, name, flavor, **more):
        """Asks for a server without networks; its id, or None where several were asked for."""
        server = {"name": name, "flavorRef": flavor, "imageRef": self.place.image, "networks": "none"} | more
        return self.ask("nova", "POST", "/servers", {"server": server})["server"].get("id")

    def server(self, server_id):
        """A server as it is."""
        return self.ask("nova", "GET", f"/servers/{server_id}")["server"]

    def settled(self, server_id, seconds=60):
        """Waits until nothing is being done to a server; it as it then is."""

        def done():
            server = self.server(server_id)
            busy = server["OS-EXT-STS:task_state"] or server["status"] in ("BUILD", "REBUILD", "RESIZE", "MIGRATING")
            # The fault is recorded a moment after the status turns ERROR.
            return None if busy or (server["status"] == "ERROR" and "fault" not in server) else server

        return until(f"server {server_id} settles", seconds, done, pause=0.3)

    def boot(self, name, flavor, **more):
        """Boots a server: where it runs, or why it does not."""
        server = self.settled(self.create(name, flavor, **more))
        return server["OS-EXT-SRV-ATTR:host"] if server["status"] == "ACTIVE" else server["fault"]["message"]

    def act(self, server_id, action, **arguments):
        """An action on a server."""
        return self.ask("nova", "POST", f"/servers/{server_id}/action", {action: arguments or None})

    def delete(self, server_id):
        """Deletes a server and waits until it is gone."""
        self.ask("nova", "DELETE", f"/servers/{server_id}")

        def gone():
            try:
                self.server(server_id)
            except Refused as error:
                if error.status != 404:
                    raise
                return True
            return False

        until(f"server {server_id} is gone", 60, gone)

    def migrations(self, server_id):
        """What was done to move a server, the oldest first."""
        listed = self.ask("nova", "GET", "/os-migrations", instance_uuid=server_id)["migrations"]
        return sorted(listed, key=lambda migration: migration["created_at"])

    def await_migration(self, server_id, count, seconds=60):
        """Waits until the `count`-th migration of a server has ended; its status."""
        over = ("completed", "done", "error", "failed", "cancelled", "confirmed", "finished", "reverted")

        def ended():
            listed = self.migrations(server_id)
            return len(listed) >= count and listed[count - 1]["status"] in over and listed[count - 1]["status"]

        return until(f"migration {count} of server {server_id} ends", seconds, ended, pause=0.3)
