"""Plots of what bench.py measured, as SVG, without a library."""

import math
import pathlib
import xml.sax.saxutils

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 56, 64
COLOURS = ("#1f6f8b", "#e07a3f", "#7aa95c", "#8d6a9f", "#5c6770")
LIMIT = "#b3261e"


def nice(most):
    """Some six round values from 0 to what is drawn at most."""
    step = 10 ** math.floor(math.log10(most / 5)) if most > 0 else 1
    step *= next(factor for factor in (1, 2, 5, 10) if most / (step * factor) <= 6)
    return [step * i for i in range(int(most / step) + 1)]


def decades(least, most):
    return [10.0 ** k for k in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)]


def short(value):
    return "%gk" % (value / 1000) if value >= 10000 else "%g" % value


class Chart:
    """x and y: (least, most) of what is drawn; log_x, log_y: on a logarithmic scale."""

    def __init__(self, title, x, y, x_label="", y_label="", log_x=False, log_y=False):
        self.x_range, self.y_range, self.log_x, self.log_y = x, y, log_x, log_y
        self.parts, self.legends = [], 0
        self.text(WIDTH / 2, 24, title, "middle", 16)
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, "middle")
        self.parts.append('<g transform="translate(18 %g) rotate(-90)"><text text-anchor="middle">%s</text></g>' % (
            (TOP + HEIGHT - BOTTOM) / 2, xml.sax.saxutils.escape(y_label)))
        for value in decades(*y) if log_y else nice(y[1]):
            if y[0] <= value <= y[1]:
                self.line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value), "#dddddd")
                self.text(LEFT - 8, self.y(value) + 4, short(value), "end")

    def place(self, value, least, most, log):
        if log:
            value, least, most = (math.log10(max(v, 1e-9)) for v in (value, least, most))
        return (value - least) / (most - least)

    def x(self, value):
        return LEFT + self.place(value, *self.x_range, self.log_x) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return HEIGHT - BOTTOM - self.place(value, *self.y_range, self.log_y) * (HEIGHT - TOP - BOTTOM)

    def text(self, x, y, text, anchor="start", size=12, colour="#222222"):
        self.parts.append(
            '<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s" stroke="white" stroke-width="3" '
            'paint-order="stroke">%s</text>' % (x, y, anchor, size, colour, xml.sax.saxutils.escape(text)))

    def line(self, x1, y1, x2, y2, colour, dashed=False):
        self.parts.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"%s/>' % (
            x1, y1, x2, y2, colour, ' stroke-width="1.5" stroke-dasharray="6 4"' if dashed else ""))

    def tick(self, value, text):
        self.text(self.x(value), HEIGHT - BOTTOM + 18, text, "middle")

    def curve(self, points, colour, name=None, dots=False):
        places = [(self.x(x), self.y(y)) for x, y in points]
        self.parts.append('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' % (
            colour, " ".join("%.1f,%.1f" % place for place in places)))
        for place in places if dots else []:
            self.parts.append('<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>' % (*place, colour))
        if name:
            self.legend(name, colour)

    def bar(self, x, width, low, high, colour):
        self.parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>' % (
            x, self.y(high), width, self.y(low) - self.y(high), colour))

    def limit(self, value, text, least=None, most=None, anchor="end"):
        """A target, across all of the chart or from x least to most."""
        x1, x2 = LEFT if least is None else self.x(least), WIDTH - RIGHT if most is None else self.x(most)
        self.line(x1, self.y(value), x2, self.y(value), LIMIT, True)
        self.text(x2 if anchor == "end" else x1, self.y(value) - 5, text, anchor, 12, LIMIT)

    def legend(self, name, colour):
        x = LEFT + 150 * self.legends
        self.legends += 1
        self.parts.append('<rect x="%d" y="36" width="12" height="12" fill="%s"/>' % (x, colour))
        self.text(x + 18, 46, name)

    def write(self, path):
        pathlib.Path(path).write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">\n'
            '<rect width="100%%" height="100%%" fill="white"/>\n%s\n</svg>\n' % (WIDTH, HEIGHT, "\n".join(self.parts)))


def bars(title, y_label, columns, limits=(), names=()):
    """columns: (name, values, one on top of the other, text above). limits: (column, value, text)."""
    most = max([sum(values) for _, values, _ in columns] + [value for _, value, _ in limits]) or 1
    chart = Chart(title, (0, len(columns)), (0, most * 1.15), y_label=y_label)
    width = (WIDTH - LEFT - RIGHT) / len(columns)
    for i, (name, values, text) in enumerate(columns):
        low = 0
        for k, value in enumerate(values):
            chart.bar(chart.x(i) + 0.2 * width, 0.6 * width, low, low + value, COLOURS[k if len(values) > 1 else 0])
            low += value
        chart.tick(i + 0.5, name)
        chart.text(chart.x(i + 0.5), chart.y(low) - 6, text, "middle")
    for k, (i, value, text) in enumerate(limits):
        chart.limit(value, text, i + 0.02, i + 0.98, ("end", "start")[k % 2])
    for k, name in enumerate(names):
        chart.legend(name, COLOURS[k])
    return chart


# The plots: each takes the measurements by name, and gives None where it has nothing to draw.

def cpu_us(f):
    return sum(us for part, us in f["cpu_us"].items() if part != "broker")


def throughput(get):
    names = [name for name in ("copy", "sql", "end to end", "peer, rows", "peer, sets") if get(name)]
    if "end to end" not in names:
        return None
    per_s = {name: 1e6 / cpu_us(get(name)) for name in names}
    columns = [(name, [per_s[name]], "%.0f (%.0f/s)" % (per_s[name], get(name)["per_s"])) for name in names]
    limits = [(names.index("end to end"), share * per_s[name], "%g of %s" % (share, name))
              for name, share in (("sql", 0.8), ("copy", 0.25))]
    return bars("Commands per CPU second of worker and PostgreSQL (beside it: by the clock)", "commands", columns, limits)


def cpu(get):
    names = [name for name in (
        "copy", "sql", "end to end", "2 lanes", "16 % errors", "peer, rows", "peer, sets", "peer, single") if get(name)]
    parts = ("postgres", "worker", "broker")
    columns = []
    for name in names:
        us = dict(get(name)["cpu_us"])
        us["worker"] = us.get("worker", us.get("tool"))
        columns.append((name, [us.get(part, 0) for part in parts], "%.0f" % sum(us.get(part, 0) for part in parts)))
    return bars("CPU time of a command", "us", columns, names=("PostgreSQL", "worker, or tool", "broker")) if columns else None


def latency(get):
    found = [(name, get("%s at 100/s" % name)) for name in ("loop", "worker") if get("%s at 100/s" % name)]
    if len(found) < 2:
        return None
    points = {name: [(1 / (1 - share), ms) for share, ms in f["curve"]] for name, f in found}
    loop = found[0][1]
    limits = 1.4 * loop["p50_ms"], 3 * loop["p99_ms"]
    every = [p for curve in points.values() for p in curve] + [(2, limits[0]), (100, limits[1])]
    chart = Chart("From due to answered at 100 commands/s", (1, max(x for x, _ in every)),
                  (min(y for _, y in every) / 2, max(y for _, y in every) * 2), "percentile", "ms", True, True)
    for share in 0, 0.5, 0.9, 0.99, 0.999, 0.9999:
        if 1 / (1 - share) <= chart.x_range[1]:
            chart.tick(1 / (1 - share), "%g %%" % (100 * share))
    for (name, _), colour in zip(found, COLOURS):
        chart.curve(points[name], colour, name)
    chart.limit(limits[0], "p50: 1.4 of the loop's", 1.2, 3.5)
    chart.limit(limits[1], "p99: 3 of the loop's", 40, 100)
    return chart


def rates(get):
    found = {name: sorted((rate, get("%s at %d/s" % (name, rate))) for rate in (10, 100, 500, 1000, 2000)
                          if get("%s at %d/s" % (name, rate))) for name in ("loop", "worker")}
    if len(found["worker"]) < 2:
        return None
    most = max(f["p99_ms"] for measured in found.values() for _, f in measured)
    least = min(f["p50_ms"] for measured in found.values() for _, f in measured)
    chart = Chart("Latency over load", (8, 2500), (least / 2, most * 2), "commands a second", "ms", True, True)
    for rate, _ in found["worker"]:
        chart.tick(rate, "%d" % rate)
    colours = iter(COLOURS)
    for name, measured in found.items():
        for figure in "p50", "p99":
            chart.curve([(rate, f[figure + "_ms"]) for rate, f in measured], next(colours), "%s %s" % (name, figure), True)
    return chart


def memory(get):
    if not get("memory"):
        return None
    course = get("memory")["course"]
    chart = Chart("Resident set before a backlog of %d commands" % get("memory")["commands"], (0, max(1, course[-1][0])),
                  (0, max(40, 1.1 * max(mib for _, mib in course))), "seconds", "MiB")
    for second in nice(chart.x_range[1]):
        chart.tick(second, "%g" % second)
    chart.curve(course, COLOURS[0])
    chart.limit(32, "32 MiB a lane")
    return chart


def sweep(title, names, limits=()):
    def draw(get):
        found = [(name, get(name)) for name in names if get(name)]
        if len(found) < 2:
            return None
        columns = [(name, [f["per_s"]], "%.0f/s, %.0f us" % (f["per_s"], cpu_us(f))) for name, f in found]
        measured = [name for name, _ in found]
        return bars(title, "commands/s", columns, [
            (measured.index(name), share * get(of)["per_s"], "%g of %s" % (share, of)) for name, share, of in limits
            if name in measured and of in measured])
    return draw


def lanes(what, *others):
    return sweep("Lanes" + what, [n + what for n in ("1 lane", "2 lanes", "4 lanes")] + list(others),
                 [("2 lanes" + what, 1.7, "1 lane" + what)])


PLOTS = {
    "throughput": throughput, "cpu": cpu, "latency": latency, "rates": rates, "memory": memory,
    "lanes": lanes("", "2 workers"),
    "batches": sweep("Most commands in a batch", ["batch %d" % n for n in (1, 50, 200, 500, 1000)]),
    "small-batches": lanes(", batches of 20"),
    "far-servers": lanes(", batches of 20, 2 ms away"),
    "partitions": sweep("Partitions of the commands topic", ("1 partition", "2 partitions", "8 partitions", "32 partitions")),
    "leads": sweep("Leads of a command", ["%s leads" % n for n in (1, 25, "all", 1000, 20000)]),
    "data": sweep("Data and tenants", ("end to end", "a tenth of the rows", "skewed tenants", "16 % errors")),
}


def write_all(figures, folder):
    for old in pathlib.Path(folder).glob("*.svg"):
        old.unlink()
    for name, draw in PLOTS.items():
        chart = draw(figures["measurements"].get)
        if chart:
            chart.write(pathlib.Path(folder) / (name + ".svg"))
