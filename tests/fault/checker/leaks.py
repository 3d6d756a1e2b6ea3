"""C10: planted secrets appear nowhere; memory, descriptors and threads stay flat."""

import base64
import collections
import json
import urllib.parse

from checker.case import Part

# "Flat" is: the least of the last seconds is not above the most of the early ones by more than this.
WATCH_S, WARM_UP_S, EDGE_S = 20, 5, 5
MARGINS = {"rss_kib": 16384, "fds": 12, "threads": 6}


class Leaks(Part):
    """What gets out, and what piles up."""

    def check(self):
        self.check_secrets()
        self.check_resources()

    def check_secrets(self):
        needles = [(number, how, form) for number, secret in enumerate(self.meta["secrets"], 1) for how,
                   form in disguises(secret)]
        for name, text in self.folder.logs.items():
            for number, how, form in needles:
                at = text.find(form)
                if at >= 0:
                    line = text.count(b"\n", 0, at) + 1
                    self.violation("C10", None, "secret %d stands in %s, line %d%s: %s", number, name, line, how,
                                   text.splitlines()[line - 1].decode(errors="replace")[:300])
        places = [(answer.record, "result", b"\0".join([answer.record.value or b"",
                                                        *header_bytes(answer.record.headers)]))
                  for answer in self.raw]
        places += [(letter, "dead letter", b"\0".join(header_bytes(added_headers(letter))))
                   for letter in self.folder.letters]
        everything = b"\0".join(text for _, _, text in places)
        for number, how, form in needles:
            if form not in everything:
                continue
            for record, kind, text in places:
                if form in text:
                    self.violation("C10", record.key if kind == "result" else None,
                                   "secret %d stands in the %s in partition %d at offset %d%s",
                                   number, kind, *record.place, how)

    def check_resources(self):
        runs = collections.defaultdict(list)
        for sample in self.folder.samples:
            runs[sample["slot"], sample["run"], sample["pid"]].append(sample)  # the round before numbered its own
        for (slot, run, _), samples in runs.items():
            samples.sort(key=lambda sample: sample["at_ms"])
            begin, end = samples[0]["at_ms"], samples[-1]["at_ms"]
            if end - begin < WATCH_S * 1000:
                continue
            late = [s for s in samples if end - s["at_ms"] <= EDGE_S * 1000]
            # Without its coordinators a worker has not made all of its clients yet, and it has their threads when it has.
            complete = min(s["at_ms"] for s in samples if s["threads"] >= late[-1]["threads"])
            for what, margin in MARGINS.items():
                warm = begin + WARM_UP_S * 1000 if what == "threads" else max(begin + WARM_UP_S * 1000, complete)
                early = [s for s in samples if warm <= s["at_ms"] <= warm + EDGE_S * 1000]
                before, after = max((s[what] for s in early), default=0), min(s[what] for s in late)
                if early and end - warm >= WATCH_S * 1000 - WARM_UP_S * 1000 and after > before + margin:
                    self.violation("C10", None, "worker %s, run %s: %s rose from %d to %d within %.0f s, by more than %d",
                                   slot, run, what, before, after, (end - begin) / 1000, margin)


def added_headers(letter):
    """Those that the worker wrote, not the publisher."""
    return [(name, value) for name, value in letter.headers if name.startswith(("kafka_dlt-", "campaign-dlt-"))]


def header_bytes(headers):
    return [part for name, value in headers for part in (name.encode(), value or b"")]


def disguises(secret):
    """The forms in which a secret might get out: (how, bytes)."""
    raw = secret.encode()
    forms = {raw: "", raw.hex().encode(): ", in hex", raw.hex().upper().encode(): ", in hex",
             urllib.parse.quote(secret,
                                safe="").encode(): ", URL-encoded", json.dumps(secret)[1:-1].encode(): ", as JSON"}
    for shift in range(3):  # inside of a longer text, base64 depends on where it begins
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).rstrip(b"=")
            sure = text[(0, 2, 3)[shift]:len(text) - ((shift + len(raw)) % 3 != 0)]
            if len(sure) >= 8:
                forms.setdefault(sure, ", in base64")
    forms[raw] = ""
    return [(how, form) for form, how in forms.items()]
