"""What all checks of a round share."""

import collections

from avrocodec import command_codec, result_codec
from checker.folder import Answer, Asked
from checker.outside import Outside


class Case:
    def __init__(self, folder):
        self.folder, self.meta = folder, folder.meta
        self.found, self.counts = [], collections.Counter()
        self.datums = {}  # by codec and bytes: each value is decoded once
        self.asked = {record.place: Asked(record, self.decode(command_codec, record.value)) for record in folder.commands}
        self.begin_ms = min((asked.ms for asked in self.asked.values()), default=float("inf"))
        self.outside = Outside(folder)
        self.drafts = {}  # by (account group, trace): the one that counts
        self.answers = self.read_results(folder.results)
        self.raw = self.read_results(folder.raw)

    def decode(self, codec, value):
        if value is None:
            return None
        if (codec, value) not in self.datums:
            try:
                self.datums[codec, value] = codec.decode(value)
            except Exception:  # whatever the library raises: these bytes are not of this schema
                self.datums[codec, value] = None
        return self.datums[codec, value]

    def read_results(self, records):
        return [Answer(record, self.decode(result_codec, record.value)) for record in records]

    def violation(self, check, about, text, *values):
        self.found.append((int(check[1:]), "%s: %s" % (check, text % values), about))

    def wrong(self, check, asked, text, *values):
        """A violation whose text begins with, or speaks first of, the command."""
        self.violation(check, asked.about, text, asked, *values)


class Part:
    """Some of the checks."""

    def __init__(self, case):
        self.case, self.folder, self.meta, self.outside = case, case.folder, case.meta, case.outside
        self.asked, self.answers, self.raw, self.drafts = case.asked, case.answers, case.raw, case.drafts
        self.counts, self.violation, self.wrong = case.counts, case.violation, case.wrong
