from nova_support import cloud, option  # noqa: F401
