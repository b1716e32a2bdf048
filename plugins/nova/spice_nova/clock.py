"""Time, in one place that tests replace."""

import time


class SystemClock:
    """UTC, and the clock that runs on through suspend and cannot be set; both in ms."""

    def utc_ms(self):
        return time.time_ns() // 1_000_000

    def boottime_ms(self):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def boot_id(self):
        """Which boot `boottime_ms` counts from."""
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
