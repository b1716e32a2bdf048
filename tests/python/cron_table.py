#!/usr/bin/env python3
"""Writes the table of cron runs that the tests of src/checks/schedule compare with.

Another language, another time zone library and another method: every minute (or second) is asked whether it is a run.
Usage: cron_table.py > src/checks/schedule/tests/runs.txt
"""

import datetime
import zoneinfo

UTC = datetime.UTC
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def members(text, low, high, names=()):
    """The numbers that one field admits."""

    def number(word):
        return low + names.index(word.lower()) if word.lower() in names else int(word)

    found = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found.update(range(number(first), number(last or first) + 1, int(step or 1)))
    return found


class Cron:
    """A cron text and whether a local time matches it."""

    def __init__(self, text):
        fields = text.split()
        self.step = 1 if len(fields) == 6 else 60
        seconds = fields.pop(0) if len(fields) == 6 else "0"
        minutes, hours, days, months, weekdays = fields
        self.seconds, self.minutes = members(seconds, 0, 59), members(minutes, 0, 59)
        self.hours, self.days = members(hours, 0, 23), members(days, 1, 31)
        self.months = members(months, 1, 12, MONTHS)
        self.weekdays = {day % 7 for day in members(weekdays, 0, 6 if weekdays[0] == "*" else 7, DAYS)}
        self.either = days[0] != "*" and weekdays[0] != "*"

    def matches(self, local):
        if local.second not in self.seconds or local.minute not in self.minutes or local.hour not in self.hours:
            return False
        day, weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return local.month in self.months and ((day or weekday) if self.either else (day and weekday))


def is_run(cron, zone, at):
    """Whether the moment `at` (seconds) is a run."""
    local = datetime.datetime.fromtimestamp(at, zone)
    if cron.matches(local) and (local.fold == 0 or len(cron.hours) == 24):
        return True
    before = datetime.datetime.fromtimestamp(at - cron.step, zone)
    skipped = before.replace(tzinfo=None) + datetime.timedelta(seconds=cron.step)
    while skipped < local.replace(tzinfo=None):
        if cron.matches(skipped):
            return True
        skipped += datetime.timedelta(seconds=cron.step)
    return False


def runs(text, zone_name, start, count=5):
    cron, zone = Cron(text), zoneinfo.ZoneInfo(zone_name)
    at = int(datetime.datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp())
    found = []
    while len(found) < count:
        at += cron.step
        if is_run(cron, zone, at):
            found.append(at)
    return found


SCHEDULES = [
    "* * * * *",
    "*/5 * * * *",
    "30 * * * *",
    "*/7 * * * *",
    "0,50 * * * *",
    "15 2 * * *",
    "30 2 * * *",
    "0 2 * * *",
    "0 3 * * *",
    "30 1 * * *",
    "45 1 * * *",
    "*/20 1-3 * * *",
    "*/30 */2 * * *",
    "59 23 * * *",
    "0 0 * * *",
    "10 0,2,12 * * sun",
    "5 2 * * 7",
]
# Just before clocks change.
CHANGES = [
    ("UTC", "2026-03-29T00:40"),
    ("Asia/Kolkata", "2026-03-29T00:40"),
    ("Europe/Berlin", "2026-03-29T00:25"),
    ("Europe/Berlin", "2026-10-24T23:40"),
    ("America/New_York", "2026-03-08T06:40"),
    ("America/New_York", "2026-11-01T04:50"),
    ("Australia/Lord_Howe", "2025-10-04T15:10"),
    ("Australia/Lord_Howe", "2025-04-05T14:20"),
    ("Africa/Casablanca", "2024-03-10T01:20"),
    ("Africa/Casablanca", "2024-04-14T01:20"),
    ("America/Sao_Paulo", "2018-11-04T02:30"),
    ("America/Sao_Paulo", "2018-02-18T00:30"),
    ("Pacific/Apia", "2011-12-30T08:30"),
    ("Europe/London", "2026-10-25T00:10"),
]
OTHERS = [
    ("0 0 13 * 5", "UTC", "2026-01-01T00:00"),
    ("0 12 1,15 * mon", "Europe/Berlin", "2026-01-01T00:00"),
    ("0 0 */10 * 1", "UTC", "2026-01-01T00:00"),
    ("0 0 1 * */2", "UTC", "2026-01-01T00:00"),
    ("0 4 31 * *", "Asia/Kolkata", "2026-01-31T00:00"),
    ("0 4 29 2 *", "UTC", "2016-03-01T00:00"),
    ("0 22 * * 1-5", "America/New_York", "2026-07-03T12:00"),
    ("0 22 * * 5-7", "America/New_York", "2026-07-03T12:00"),
    ("20 4 * jan-mar/2 sat,sun", "Europe/Berlin", "2026-01-20T00:00"),
    ("0 0 1 1 *", "America/Sao_Paulo", "2020-05-05T05:05"),
    ("1-10/3 9-17/4 * * *", "Asia/Kolkata", "2026-05-05T00:00"),
    ("0 0 * * 0", "UTC", "2026-05-05T00:00"),
    ("*/15 * * * * *", "Europe/Berlin", "2026-10-25T00:59"),
    ("30 0 * * * *", "Europe/Berlin", "2026-03-29T00:00"),
    ("30 59 2 * * *", "Europe/Berlin", "2026-10-24T20:00"),
    ("59 59 1 * * *", "America/New_York", "2026-11-01T00:00"),
]


def main():
    rows = [(text, zone, start) for zone, start in CHANGES for text in SCHEDULES] + OTHERS
    print("# cron | zone | after (UTC) | the next five runs (Unix seconds); made by tests/python/cron_table.py")
    for text, zone, start in rows:
        print(f"{text} | {zone} | {start}:00Z | {' '.join(map(str, runs(text, zone, start)))}")


if __name__ == "__main__":
    main()
