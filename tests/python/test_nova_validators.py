"""nova-api accepts the extra specs, found as it finds them: by the package's entry point."""

import subprocess
import sys

import pytest
from nova import exception
from nova.api.validation.extra_specs import validators
from nova_support import ROOT
from spice_nova import validators as ours


@pytest.fixture
def registered(monkeypatch):
    """Nova's registry with ours in it, put there as `load_validators` would."""
    for validator in ours.register():
        monkeypatch.setitem(validators.VALIDATORS, validator.name, validator)
    monkeypatch.setattr(validators, "NAMESPACES", validators.NAMESPACES | {"trust", "spice"})


@pytest.mark.parametrize(
    "name, value",
    [
        ("trust:trusted_host", "trusted"),
        ("trust:trusted_host", "untrusted"),
        ("trust:trusted_host", "unknown"),
        ("spice:pool", "default"),
        ("spice:pool", "pci-dss_2.0"),
    ],
)
def test_what_the_filter_understands_is_accepted(registered, name, value):
    validators.validate(name, value)


@pytest.mark.parametrize(
    "name, value",
    [
        ("trust:trusted_host", "Trusted"),
        ("trust:trusted_host", ""),
        ("trust:trusted_host", "trusted\n"),
        ("trust:host", "trusted"),
        ("spice:pool", ""),
        ("spice:pool", "-x"),
        ("spice:pool", "a b"),
        ("spice:pool", "x" * 65),
        ("spice:pools", "default"),
    ],
)
def test_what_it_would_refuse_for_ever_is_refused_when_the_flavor_is_made(registered, name, value):
    with pytest.raises(exception.ValidationError):
        validators.validate(name, value)


INSTALLED = """
import sys
sys.path.insert(0, sys.argv[1])
from nova.api.validation.extra_specs import validators
from nova import exception
validators.validate("trust:trusted_host", "trusted")
validators.validate("spice:pool", "default")
for name, value in (("trust:trusted_host", "maybe"), ("spice:pool", "/")):
    try:
        validators.validate(name, value)
    except exception.ValidationError:
        continue
    raise SystemExit("accepted " + name + "=" + value)
assert {"trust", "spice"} <= validators.NAMESPACES
import spice_nova
print("found", spice_nova.__file__.startswith(sys.argv[1]))
"""


def test_the_installed_package_is_found_by_nova_api(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    # A copy, since building leaves its traces beside the sources.
    import shutil

    shutil.copytree(
        ROOT / "plugins" / "nova", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    )
    build = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet"]
    steps = ["egg_info", "install_lib", "--install-dir", str(target), "install_egg_info", "--install-dir", str(target)]
    subprocess.run([*build, *steps], cwd=source, check=True, capture_output=True, text=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INSTALLED, str(target)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "found True", done.stdout + done.stderr
