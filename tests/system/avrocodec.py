"""Commands and results as bytes, by Debian's python3-avro: an Avro library that shares nothing with the worker's.

Times stay integers: the logical types are dropped before parsing, which changes neither the bytes nor the fingerprint.
"""

import io
import json
import os

import avro.io
import avro.schema

SCHEMAS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "schemas", "avro")
EMPTY = 0xC15D213AA4D7A795  # CRC-64-AVRO, Avro specification, "Schema Fingerprints"


def _table():
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (EMPTY & -(i & 1))
        table.append(i)
    return table


TABLE = _table()


def crc64(data):
    crc = EMPTY
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc


def _without_logical_types(node):
    if isinstance(node, dict):
        return {k: _without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [_without_logical_types(v) for v in node]
    return node


class Codec:
    """Single-object encoding of one schema, given as JSON text."""

    def __init__(self, text):
        self.schema = avro.schema.parse(json.dumps(_without_logical_types(json.loads(text))))
        self.fingerprint = crc64(self.schema.canonical_form.encode())
        self.marker = b"\xc3\x01" + self.fingerprint.to_bytes(8, "little")

    def body(self, datum):
        out = io.BytesIO()
        avro.io.DatumWriter(self.schema).write(datum, avro.io.BinaryEncoder(out))
        return out.getvalue()

    def encode(self, datum):
        return self.marker + self.body(datum)

    def decode(self, data):
        if not data.startswith(self.marker):
            raise ValueError("not single-object encoding of this schema: %s" % data[:10].hex())
        source = io.BytesIO(data[10:])
        datum = avro.io.DatumReader(self.schema).read(avro.io.BinaryDecoder(source))
        if source.read(1):
            raise ValueError("bytes are left behind the datum")
        return datum


def load(name):
    with open(os.path.join(SCHEMAS, name)) as f:
        return Codec(f.read())


command_codec = load("duplicate-campaign-command.avsc")
result_codec = load("duplicate-campaign-result.avsc")
