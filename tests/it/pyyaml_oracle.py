"""What PyYAML makes of documents: the other side of the differential test in yaml.rs.

    pyyaml_oracle.py load              documents on stdin, each as `<length>\\n<bytes>`
    pyyaml_oracle.py dump SEED COUNT   makes its own documents, as a producer would: random metadata through yaml.dump
    pyyaml_oracle.py dump-breaks SEED COUNT   those that hold a raw line break of YAML 1.1 only

A JSON line for each document: {"ok": VALUE} or {"error": "..."}; both dumps add {"doc": TEXT}. A float is written as
{"\\u0000float": BITS} (hex), so that neither its type nor its last bit is lost on the way.

The values are those of `yaml.safe_load`, with what JSON cannot hold left as its text, as the reader documents.
"""

import datetime
import json
import math
import random
import struct
import sys

import yaml

CORE = "tag:yaml.org,2002:"


class Loader(yaml.SafeLoader):
    """`safe_load`, less the values that JSON has no type for."""

    def text(self, node):
        return self.construct_scalar(node)

    def integer(self, node):
        value = self.construct_yaml_int(node)
        return value if -(2**63) <= value < 2**64 else node.value

    def real(self, node):
        value = self.construct_yaml_float(node)
        return value if math.isfinite(value) else node.value

    def pairs(self, node):
        """A list of maps of one key, and not of tuples; PyYAML's own constructor checks the shape."""
        for _ in self.construct_yaml_pairs(node):
            pass
        value = []
        yield value
        value.extend(self.construct_sequence(node))

    def as_map(self, node):
        """A set, as a map to nulls in the order as written."""
        value = {}
        yield value
        value.update(dict.fromkeys(self.construct_mapping(node)))


Loader.add_constructor(CORE + "timestamp", Loader.text)
Loader.add_constructor(CORE + "binary", Loader.text)
Loader.add_constructor(CORE + "int", Loader.integer)
Loader.add_constructor(CORE + "float", Loader.real)
Loader.add_constructor(CORE + "omap", Loader.pairs)
Loader.add_constructor(CORE + "pairs", Loader.pairs)
Loader.add_constructor(CORE + "set", Loader.as_map)


def name(key):
    """A key as `json.dumps` writes it."""
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return float.__repr__(key) if isinstance(key, float) else int.__repr__(key)


def plain(value, above=()):
    """The value as `json.dumps` takes it. `above`: the collections that it stands in, to find a recursive one."""
    if isinstance(value, float):
        return {"\0float": struct.pack(">d", value).hex()}
    if isinstance(value, (dict, list)):
        if id(value) in above:
            raise ValueError("recursive")
        above = above + (id(value),)
    if isinstance(value, dict):
        return {name(k): plain(v, above) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v, above) for v in value]
    return value


def answer(document):
    try:
        value = plain(yaml.load(document, Loader))
        # A surrogate pair written as two escapes is one character to whoever reads the JSON; half a pair is none.
        json.dumps(json.loads(json.dumps(value)), ensure_ascii=False).encode("utf-8")
        return {"ok": value}
    except Exception as error:  # whatever safe_load raises, it has no value
        return {"error": f"{type(error).__name__}: {error}"}


# What tempts a resolver, an emitter or a scanner.
WORDS = """
12345e10 00000e00 1e5 1.5e3 1.5e+3 0777 08 0o17 0x1F 0b101 1_000 12:30:45 190:20:30.15 +12 -5 5. .5 . .. ... --- -- -
yes no on off true False NULL null ~ y n None .inf -.inf .nan 2023-10-31 2023-10-31T12:30:45Z = << * & ! | > % @ ` ? :
a:b a: :a a#b #a -a ?a [a] {a} a, "a" 'a' it's \\n a\\ http://x.org/y?z=1#f eb-m001-20230921-245 failure done working
""".split() + ["", " ", "a b", " a", "a ", "a: b", "a #b", "- a", "? a", "line\nnext", "line\n", "\nline", "a\n\nb\n\n",
    "  in\n out\n", "tab\tin", "\ttab", "tab\t", "é", "日本語", "🛰", "\u00a0", "\u0085", "\u2028", "\ufeff", "\x07", "\r\n",
    "\x00", "x" * 100, "word " * 40, "a  b   c", "'", '"', "''", '""', "\\", "%TAG", "!!str", "&a", "*a", "--- a", "..."]
KEYS = ["interface", "execution_block", "context", "config", "files", "obscore", "path", "status", "description", "size",
    "crc", "notes", "image", "commit", "cmdline", "s_ra", "t_min", "pol_states"]


def scalar(rng):
    kind = rng.randrange(12)
    if kind < 3:
        return rng.choice(WORDS)
    if kind == 3:
        return "".join(rng.choice("0123456789abcdef") for _ in range(rng.choice([8, 8, 40])))
    if kind == 4:
        return "".join(rng.choice("0123456789eE.+-_:xob") for _ in range(rng.randint(1, 8)))
    if kind == 5:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 30)))
    if kind == 6:
        return rng.choice([0, 1, -1, 7, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, rng.randrange(10**9)])
    if kind == 7:
        return rng.choice([0.0, -0.0, 1.0, 0.1, 1e16, 1e-5, 1.5e300, 5e-324, math.inf, math.nan, rng.random(),
            rng.random() * 10 ** rng.randint(-300, 300)])
    if kind == 8:
        return rng.choice([None, True, False, datetime.date(2023, 10, 31), datetime.datetime(2023, 10, 31, 12, 30, 45, 500),
            datetime.datetime(2023, 10, 31, 1, 2, 3, tzinfo=datetime.timezone.utc), b"\0bytes", {"a", 1, "b c"}, set()])
    if kind == 9:
        text = "".join(chr(rng.choice([rng.randint(32, 126), rng.randint(9, 13), rng.randint(128, 0x2100)])) for _ in range(6))
        return text
    return rng.choice(KEYS) + str(rng.randrange(100))


def key(rng):
    pick = rng.randrange(8)
    made = rng.choice(KEYS) if pick < 5 else rng.choice(WORDS) if pick < 7 else scalar(rng)
    return rng.choice(KEYS) if isinstance(made, set) else made


def nested(rng, depth, shared):
    kind = rng.randrange(10) if depth else 9
    if kind == 0 and shared:
        return rng.choice(shared)
    if kind < 4:
        value = {key(rng): nested(rng, depth - 1, shared) for _ in range(rng.randint(0, 4))}
    elif kind < 6:
        value = [nested(rng, depth - 1, shared) for _ in range(rng.randint(0, 4))]
    else:
        return scalar(rng)
    shared.append(value)
    return value


def dumped(rng, breaks):
    """A dump with or without the raw line breaks of YAML 1.1 only, which the reader refuses by intent outside of quotes."""
    while True:
        document = dump(rng)
        if breaks == any(c in document for c in "\x85\u2028\u2029"):
            return document.encode("utf-8")


def dump(rng):
    data = {key(rng): nested(rng, 3, []) for _ in range(rng.randint(1, 4))}
    shared = [] if rng.random() < 0.8 else [{"a": 1, "b": [1, 2]}]
    if shared:
        data.update(one=shared[0], two=shared[0])
    return yaml.dump(
        data,
        default_flow_style=rng.choice([False, False, True, None]),
        width=rng.choice([20, 80, 80, 1000]),
        indent=rng.choice([None, 2, 4, 8]),
        allow_unicode=rng.choice([False, True]),
        default_style=rng.choice([None, None, None, "'", '"', "|", ">"]),
        sort_keys=False,
        explicit_start=rng.random() < 0.2,
        explicit_end=rng.random() < 0.2,
        version=rng.choice([None, None, None, (1, 1)]),
        line_break=rng.choice([None, None, "\r\n"]),
    )


def main():
    sys.set_int_max_str_digits(0)
    mode, *rest = sys.argv[1:]
    lines = []
    if mode.startswith("dump"):
        rng = random.Random(int(rest[0]))
        for _ in range(int(rest[1])):
            document = dumped(rng, mode == "dump-breaks")
            lines.append({"doc": document.decode("utf-8"), **answer(document)})
    else:
        while length := sys.stdin.buffer.readline():
            lines.append(answer(sys.stdin.buffer.read(int(length))))
    sys.stdout.write("".join(json.dumps(line) + "\n" for line in lines))
    sys.stdout.flush()


main()
