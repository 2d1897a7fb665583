"""What the bench has measured, for people: a page of Markdown and a plot of the ratios as SVG, which is readable on light and on dark ground."""

import math
import os
import platform
import re
import time
from html import escape

BAR, GAP, LEFT, WIDTH, RIGHT = 12, 10, 400, 520, 70
# Peers, in colours of middling lightness: they stand out on white and on black.
COLOURS = {"docker": "#2f81f7", "podman": "#a371f7", "crun": "#db6d28", "skopeo": "#3fb950", "gzip+tar": "#bf8700"}


class Report:
    """Tables of rows. A row knows whether less is better."""

    def __init__(self):
        self.tables = []        # (title, columns, rows); a row: (title, {column: figure}, reference, more is better)

    def table(self, title, columns):
        self.tables.append((title, list(columns), []))

    def row(self, title, figures, reference, more=False):
        self.tables[-1][2].append((title, dict(figures), reference, more))

    def line(self):
        """The last row as a line of a Markdown table."""
        return self._line(self.tables[-1][1], self.tables[-1][2][-1])

    def head(self):
        return self._head(*self.tables[-1][:2])

    @staticmethod
    def _head(title, columns):
        return f"| {title} | " + " | ".join(columns) + " | ratio |\n|---|" + "---|" * (len(columns) + 1)

    @staticmethod
    def _line(columns, row):
        title, figures, reference, _ = row
        ours, base = figures.get("gantry"), figures.get(reference)
        ratio = f"{ours / base:.2f}x {reference}" if ours is not None and base else ""
        return f"| {title} | " + " | ".join(f"{figures[c]:.1f}" if c in figures else "-" for c in columns) + f" | {ratio} |"

    def write(self, svg):
        """The plot, and the tables beside it as .md."""
        bars = self.bars()
        with open(svg, "w") as f:
            f.write(plot(bars))
        with open(os.path.splitext(svg)[0] + ".md", "w") as f:
            f.write("# Figures\n\n")
            f.write(f"`tests/bench/bench --plot {os.path.basename(svg)}` on {host()}, {time.strftime('%Y-%m-%d', time.gmtime())}. Medians; "
                    "engines take turns on one machine.\n\n")
            if bars:
                f.write(f"![gantry as a multiple of its peers, by work]({os.path.basename(svg)})\n\n")
            for title, columns, rows in self.tables:
                if rows:
                    f.write(self._head(title, columns) + "\n")
                    f.writelines(self._line(columns, row) + "\n" for row in rows)
                    f.write("\n")

    def bars(self):
        """[(row's title, [(peer, cost of gantry as a multiple of the peer's)])]: less is better, also where more of the figure is."""
        found = []
        for _, _, rows in self.tables:
            for title, figures, _, more in rows:
                ours = figures.get("gantry")
                ratios = [(peer, theirs / ours if more else ours / theirs) for peer, theirs in figures.items()
                          if peer in COLOURS and ours and theirs]
                if ratios:
                    found.append((plain(title) + (" (inverse)" if more else ""), ratios))
        return found


def plain(title):
    return re.sub("`", "", title).removesuffix(", ms")


def host():
    model = "an unknown CPU"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"Linux {platform.release().partition('-')[0]}, {os.cpu_count()} CPUs ({model})"


def scale(bars):
    """Powers of ten around all ratios, and x of a ratio."""
    values = [ratio for _, ratios in bars for _, ratio in ratios] + [0.5, 2]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, high, lambda ratio: LEFT + WIDTH * (math.log10(ratio) - low) / (high - low)


def axis(low, high, at, top, bottom):
    """A line for 1, 2 and 5 of each power of ten."""
    out = []
    for power in range(low, high + 1):
        for step in (1, 2, 5):
            value = step * 10.0 ** power
            if value > 10.0 ** high:
                break
            heavy = value == 1
            out.append(f'<line class="{"one" if heavy else "grid"}" x1="{at(value):.1f}" x2="{at(value):.1f}" y1="{top}" y2="{bottom}"/>')
            out.append(f'<text class="axis" x="{at(value):.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    return out


def plot(bars):
    peers = [peer for peer in COLOURS if any(peer == p for _, ratios in bars for p, _ in ratios)]
    low, high, at = scale(bars)
    top, y, body = 64, 64, []
    for title, ratios in bars:
        height = len(ratios) * BAR
        body.append(f'<text class="row" x="{LEFT - 10}" y="{y + height / 2 + 4:.1f}" text-anchor="end">{escape(title)}</text>')
        for peer, ratio in sorted(ratios, key=lambda pair: peers.index(pair[0])):
            one, here = at(1), at(ratio)
            body.append(f'<rect x="{min(one, here):.1f}" y="{y}" width="{max(abs(here - one), 1):.1f}" height="{BAR - 2}" rx="1" '
                        f'fill="{COLOURS[peer]}"><title>{escape(title)}: {ratio:.2f} times {escape(peer)}</title></rect>')
            anchor, x = ("end", here - 4) if here < one else ("start", here + 4)
            body.append(f'<text class="figure" x="{x:.1f}" y="{y + BAR - 3}" text-anchor="{anchor}">{ratio:.2g}</text>')
            y += BAR
        y += GAP
    bottom = y
    legend, x = [], LEFT
    for peer in peers:
        legend.append(f'<rect x="{x}" y="34" width="10" height="10" rx="1" fill="{COLOURS[peer]}"/>'
                      f'<text class="row" x="{x + 15}" y="43">of {escape(peer)}</text>')
        x += 40 + 9 * len(peer)
    width, height = LEFT + WIDTH + RIGHT, bottom + 30
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="gantry as a multiple of its peers, by work">',
        # No ground of its own: the page's shows. Greys that are read on white and on black, better ones where the reader's choice is known.
        "<style>text{font:12px system-ui,sans-serif;fill:#6e7781}.head{font-size:15px;font-weight:600}.figure,.axis{font-size:10px}"
        ".grid{stroke:#8c959f;stroke-opacity:.25}.one{stroke:#8c959f;stroke-width:1.5}"
        "@media(prefers-color-scheme:dark){text{fill:#adbac7}}@media(prefers-color-scheme:light){text{fill:#424a53}}</style>",
        f'<text class="head" x="{LEFT}" y="20">gantry as a multiple of its peers (left of 1: gantry takes less)</text>',
        *legend, *axis(low, high, at, top - 8, bottom), *body, "</svg>", ""])
