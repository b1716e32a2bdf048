"""A small real OpenStack on one machine: keystone, placement, nova, and compute services with nova's fake driver.

`cloud` starts and stops it, `config` writes its files, `api` asks it as its administrator, `processes` are what it
runs, `serve` is what runs inside its Python environment.
"""
