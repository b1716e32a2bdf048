"""The configuration files of the cloud's services."""

import dataclasses
import pathlib
import shutil

REGION = "RegionOne"
SERVICE_DOWN_S = 12
"""A compute service counts as down so long after its last report."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where everything is."""

    dir: pathlib.Path
    venv: pathlib.Path
    password: str
    database: str
    """SQLAlchemy URL up to the name of the database."""
    transport_url: str
    ports: dict
    image: str
    """The id of the only image."""

    def url(self, name, path=""):
        """Address of an API."""
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def database_url(self, name):
        """Address of a database."""
        return f"{self.database}{name}?charset=utf8mb3"

    @property
    def etc(self):
        """Folder of the configuration."""
        return self.dir / "etc"


def credentials(place, section):
    """How a service asks keystone for a token."""
    return f"""
[{section}]
auth_type = password
auth_url = {place.url("keystone", "/v3")}
username = service
password = {place.password}
user_domain_id = default
project_domain_id = default
project_name = service
region_name = {REGION}
"""


def accepts_tokens(place):
    """How an API judges the tokens of its callers."""
    return (
        credentials(place, "keystone_authtoken")
        + f"""www_authenticate_uri = {place.url("keystone", "/v3")}
service_token_roles = service
service_token_roles_required = true
token_cache_time = 60
"""
    )


def keystone(place):
    """keystone.conf. Its cache is what makes it fast enough for two processors."""
    return f"""[DEFAULT]
use_stderr = true
[database]
connection = {place.database_url("keystone")}
[cache]
enabled = true
backend = oslo_cache.dict
[identity]
password_hash_rounds = 4
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = {place.dir}/keystone/fernet
[credential]
key_repository = {place.dir}/keystone/credential
"""


def placement(place):
    """placement.conf."""
    return f"""[DEFAULT]
use_stderr = true
[api]
auth_strategy = keystone
[placement_database]
connection = {place.database_url("placement")}
sync_on_startup = true
{accepts_tokens(place)}"""


def nova(place):
    """nova.conf of every service of nova."""
    return f"""[DEFAULT]
use_stderr = true
transport_url = {place.transport_url}
my_ip = 127.0.0.1
state_path = {place.dir}/nova
tempdir = {place.dir}/tmp
graceful_shutdown_timeout = 3
manager_shutdown_timeout = 2
report_interval = 3
service_down_time = {SERVICE_DOWN_S}
[api_database]
connection = {place.database_url("nova_api")}
[database]
connection = {place.database_url("nova_cell1")}
[oslo_concurrency]
lock_path = {place.dir}/tmp
[conductor]
workers = 1
[scheduler]
workers = 1
# New hosts are mapped to their cell by this task of the scheduler.
discover_hosts_in_cells_interval = 2
[quota]
instances = -1
cores = -1
ram = -1
[notifications]
# What tells of services and aggregates exists as versioned notifications only.
notification_format = both
notify_on_state_change = vm_and_task_state
[oslo_messaging_notifications]
driver = messagingv2
[vnc]
enabled = false
[cache]
enabled = true
backend = oslo_cache.dict
[glance]
endpoint_override = {place.url("glance")}
region_name = {REGION}
{credentials(place, "neutron")}endpoint_override = {place.url("neutron")}
{credentials(place, "placement")}{credentials(place, "service_user")}send_service_user_token = true
{accepts_tokens(place)}"""


def compute(place, host):
    """The part of one compute service."""
    return f"""[DEFAULT]
host = {host}
state_path = {place.dir}/computes/{host}
# Of the fake drivers the one that is the same node after a restart.
compute_driver = fake.FakeDriverWithoutFakeNodes
# It forgets its guests at a restart: nova must not stop them then.
sync_power_state_interval = -1
[oslo_concurrency]
lock_path = {place.dir}/computes/{host}
"""


def write(place):
    """Writes all of them; secrets are in them."""
    for folder in ("etc/keystone", "etc/placement", "etc/nova", "tmp", "nova", "computes", "keystone"):
        (place.dir / folder).mkdir(parents=True, exist_ok=True)
    for name in ("fernet", "credential"):
        (place.dir / "keystone" / name).mkdir(mode=0o700, exist_ok=True)
    private(place.etc / "keystone" / "keystone.conf", keystone(place))
    private(place.etc / "placement" / "placement.conf", placement(place))
    private(place.etc / "nova" / "nova.conf", nova(place))
    shutil.copy(place.venv / "etc" / "nova" / "api-paste.ini", place.etc / "nova" / "api-paste.ini")


def private(path, text):
    """A file that nobody else reads."""
    path.touch(mode=0o600)
    path.write_text(text)
