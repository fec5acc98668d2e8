"""Writes __fixtures__/python-patterns.json: the results of Python's re for patterns and texts.

Each pattern has one character for each text: 0 no match, 1 match, 3 match and fullmatch; or it has Python's error. Patterns that take Python
longer than half a second are left out. Run with the version that the fixture records: PYTHONHASHSEED=0 python make-patterns.py
"""

import json
import platform
import random
import re
import signal
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
random.seed(2024)

NAMES = [
    "", "q", "query", "q_proj", "model.layers.0.self_attn.q_proj", "model.layers.10.self_attn.v_proj", "model.layers.3.mlp.up_proj",
    "bert.encoder.layer.11.attention.self.query", "model.visual.blocks.2.attn.qkv", "language_model.model.layers.7.self_attn.k_proj",
    "transformer.h.0.attn.c_attn", "classifier", "classifier.dense", "xclassifier", "lm_head", "a", "aa", "ab", "aab", "ba", "abab",
    "model.layers.1.experts.0.w1", "A", "Query", "Q_PROJ", "a b", "a.b", "a-b", "a\n", "a\nb", "\n", "a\n\n", "ab\n", "é", "éa", "a é",
    "ſ", "K", "İ", "ı", "i", "I", "k", "s", "٣", "a٣", "layers.٣.q", "²", "ⅷ", "漢", "_", "\x1c", "\u2003", "\x85", "\U0001f600",
    "a\U0001f600b", "\U00010400", "\U000f0001", "a\U000f0001b", "aaaa", "aaab", "bbbb", "0", "12", "a1", "1a", "]", "[", "{", "}", "a{2}", "a{,}",
    "^", "$", "\\", "-", "|", "#", "a#b", "\t", "\x00", "\x07", "S", "0q", "layers.5", "layers.5.", "x.layers.5.y",
]

HAND = r"""
.*
.+
q|v
q_proj
.*q_proj
.*\.q_proj$
^.*q_proj$
.*(q|v)_proj
.*\.(q_proj|k_proj|v_proj)
.*decoder.*(SelfAttention|EncDecAttention).*(q|v)$
model\.layers\.\d+\.self_attn\.(q|v)_proj
.*layers\.([0-9]|1[0-5])\.self_attn\.(q_proj|v_proj)$
(?:.*\.)?(?:q|k|v)_proj
^(?!.*visual).*q_proj
^(?!.*visual).*(?:q_proj|k_proj|v_proj|qkv).*
(?!.*visual)(?!.*lm_head).*
\A(?=.*attn)(?!.*\.0\.).*
^((?!visual).)*$
^(?:(?!lm_head|visual).)*proj$
^(language_model(?=\.).*\.(q_proj|k_proj|v_proj))$
^(model(?=\.).*\.(up_proj|q_proj))$
(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj|v_proj|q_proj|o_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp)\.(?:(?:q_proj|v_proj|up_proj)))
(?=a)a
a(?=b)
a(?=b)b
a(?!b)
a(?!b).*
(?=a)*a
(?!a)+b
(?=(a+))a*b
(?=.*$)a
(?!$).*
(?=a(?!b))a*
(?=a$)a
(?!a\b).*
(?=\Aa)a
.(?=\bq).*
a(?=\n)
a$
a$\n
a$b
^a$
a\Z
a\Z\n
\Aa
a\A
^^a$$
(?m)^b
(?m)a$.*
(?m)a$\n^b$
(?ms)a$.^b
(?s)a.b
a.b
(?m)\Aa\Z
$
^
\Z
^$
(?:^)*a
(?:$)*
(?:a|^)b
(a|b$)*
\bq
a\b
a\Ba
\b.*\b
\w+
\W
\d+
\D
\s
\S
a\sb
[\w]+
[\W]
[^\W]
[^\w]
[\W\d]
[^\W\d_]
[\s\S]
[^\s\S]
[\d\-]
[\d-]
[a-]
[-a]
[]]
[^]]
[]a]+
[^]a]
[[]
[a\]b]+
[\b]
[\n]
[\\]
[\x61]
[\u0061]
[\U00000061-\U00000063]+
[\060-\071]+
[\0]
[^a]
[^a\n]
[a-c]+
[c-a]
[\d-a]
[a-\d]
[
[a
[]
[^]
[a-
[\
[\q]
[\A]
[\8]
(?a)\w
(?a)\W
(?a)\d
(?a)\s
(?a)\b.
(?a)a\b
(?a)[^\W]
(?u)\w
(?ai)s
(?ai)k
(?ai)[^s]
(?i)i
(?i)I
(?i)s
(?i)k
(?i)[h-j]
(?i)[^i]
(?i)[^\Wa]
(?i)[A-Z]+
(?i)query
(?i)\d
(?i)q_proj
(?i)(?-i:q)_proj
(?i:Q)uery
(?i:q)uery
(?s:.)
(?-s:.)
(?a:\w)
(?a:(?u:\w))
(?x) a  b
(?x) a # comment
(?x)a\ b
(?x)[ ]
(?x)a b # trailing
(?x: a ) b
(?x) a (?# inner ) b
(?x)a +
(?x)a {2}
(?x:a +)
(?#comment)a
a(?#comment)*
(?#
(?#)
(?i)(?m)A
 (?i)a
a(?i)
(?i
(?i-
(?i-)
(?i-i:a)
(?-:a)
(?-a:a)
(?au)a
(?L)a
(?z)a
(?ii:A)
(?:(?i)a)
(?i)|a
|(?i)a
(?i:a|b)
a|
|a
|
()
(|a)
(a|)
(?:)
(?:)*
()*
()+a
(?:|a)*
(?:a|)*b
(a*)*
(a*)+b
(a*)*?
(a+)+
(a+)+b
(?:a*|b)*
(?:a?|b)*
(?:a|b*)*
(?:a??)*
(a|ab)(c|bcd)?
a??
a*?b
a+?
a{2}
a{2}?
a{2,}
a{,2}
a{2,3}
a{,}
a{}
a{
a{2
a{2,
a{x}
a{2,x}
a{,x}
a{3,2}
a{0}
a{0}b
a{0,0}
{
}
{2}
{,}
x{,5
a{1}{1}
a{2}{2}
(?:a{2}){2}
a**
a*?*
a+*
a?+
a*+
a{2}+
a++
*
+
?
*a
|*
(*)
(?:*)
^*
$+
\b*
\A?
(?:\b)*a
(?>a)
(?>a*)a
(a)\1
(a)\2
\1
(a\1)
(?P<n>a)(?P=n)
(?P=n)
(?P<n>a)
(?P<n>a)(?P<n>b)
(?P<1>a)
(?P<>a)
(?P<n a>a)
(?P<n
(?P<é>a)
(?P>n)
(?P
(?Px)
(?
(
)
a)
(a
((a)
(?<=a)b
(?<!a)b
(?<a)
(?<n>a)
(?<
(?'n'a)
(?=a
(?(1)a|b)
(a)?(?(1)b|c)
(?P<x>a)?(?(x)b)
\a
\f
\n
\r
\t
\v
\0
\01
\012
\141
\07
\8
\9
\400
\377
\x
\x6
\x61
\x6g
\xg
\u006
\u0061
\U0000006
\U00000061
\U00110000
\N{EM DASH}
\N
\c
\q
\Q
\z
\G
\p{L}
\X
\R
\h
\.
\-
\_
\]
\}
\/
\é
\
a\
é
é+
[é]
[^é]
[à-ï]
(?i)é
漢|a
\U0001f600
a[\U0001f600-\U0001f64f]b
a.b
[^b]
a\U000f0001b
a.b$
\w\W\w
[\u0660-\u0669]+
a#b
a-b
a\-b
[a&&b]
[a||b]
[a--b]
[a~~b]
[[a]b]
a]b
a}b
.*\.(\d+)\..*
.*?\.[^.]*\.(?P<idx>\d+)\.
(?:^|.*?\.)layers\.(?P<idx>\d+)\.
(?:^|.*?\.)a|layers\.(?P<idx>\d+)\.
(^|.*\.)classifier($|\..*)
(^|.*\.)class.*r($|\..*)
(^|.*\.)a|b($|\..*)
.*\.q_proj|v_proj$
.*\.a|b$
.*\.$
(?s:.*)\Z
(((((((((((a)))))))))))
a{1000}
(a+)+$
(a|a)*b
(a|aa)+$
([a-z]+)*\d
""".split("\n")[1:-1]

ATOMS = ["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", r"\.", "_", "q", "layers", r"\W", "A", r"\n", "é"]
CONDITIONS = ["^", "$", r"\b", r"\B", r"\Z", r"\A"]


def generate(depth: int) -> str:
    choice = random.random()
    if depth == 0 or choice < 0.3:
        return random.choice(ATOMS)
    if choice < 0.5:
        return generate(depth - 1) + generate(depth - 1)
    if choice < 0.62:
        return f"(?:{generate(depth - 1)}|{generate(depth - 1)})"
    if choice < 0.82:
        quantifier = random.choice(["*", "+", "?", "{2}", "{1,2}", "{,2}", "*?", "+?", "??"])
        return f"(?:{generate(depth - 1)}){quantifier}"
    if choice < 0.9:
        return random.choice(CONDITIONS) + generate(depth - 1)
    if choice < 0.95:
        return generate(depth - 1) + random.choice(CONDITIONS)
    return f"({random.choice(['?=', '?!'])}{generate(depth - 1)}){generate(depth - 1)}"


class TooLong(Exception):
    pass


def give_up(*_):
    raise TooLong


def answers(pattern: str) -> str | dict:
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, ValueError) as error:
        return {"error": str(error)}
    # Python 3.14 changed the result of \B on the empty text, so this result is left out.
    return "".join(
        "-" if name == "" and r"\B" in pattern else str((compiled.match(name) is not None) + 2 * (compiled.fullmatch(name) is not None))
        for name in NAMES
    )


signal.signal(signal.SIGALRM, give_up)
cases, seen = [], set()
generated = [random.choice(["", "(?i)", "(?m)", "(?s)", "(?a)", "(?x)"] if random.random() < 0.4 else [""]) + generate(random.randint(1, 5)) for _ in range(420)]
soup = ["".join(random.choice(list("aab.*+?()[]{}|^$\\-,12:?P<>=!#ixms \nwdbBZ")) for _ in range(random.randint(1, 9))) for _ in range(300)]
for pattern in HAND + generated + soup:
    if pattern in seen:
        continue
    seen.add(pattern)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        cases.append([pattern, answers(pattern)])
    except TooLong:
        print("left out:", pattern, file=sys.stderr)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

# The groups of a match show which path it takes. PEFT reads the index of a layer from a group.
LISTS = [
    "layers", "h", "layer|h", "layer", ".*", ".*?", "(?:model|x)*", "[^.]*", r"\w+", "(a|b)*", r"(?P<name>\w+)", r"(?P<name>\w+)?.layers",
    r"layers(?=\.1)", r"(?!experts)\w+", r"\blayers", r"(?:layers\.\d+\.)?experts", "", "layers$", "^model.layers", r"x(\.layers)?|layers",
]
LAYER_NAMES = [
    "model.layers.0.self_attn.q_proj", "model.layers.11.experts.3.w1", "layers.5.x", "h.2.attn.h.7.x", "transformer.h.10.attn.c_attn", "layers.٣.q",
    "bert.encoder.layer.4.output.dense", "classifier", "a.b.1.a.2.c", "é.layers.1.x", "model\n.layers.1.x", "x.layers.٢٣.y.4.z", "aab.12.", "..1.", ".1.2.3.",
]
groups = []
for layers in LISTS + [generate(3) for _ in range(60)]:
    pattern = rf"(?:^|.*?\.){layers}\.(?P<idx>\d+)\."
    try:
        compiled = re.compile(pattern)
    except re.error:
        continue
    matches = [compiled.match(name) for name in LAYER_NAMES]
    groups.append([pattern, [match and match.groupdict() for match in matches]])

fixture = {"versions": {"python": platform.python_version()}, "layerNames": LAYER_NAMES, "groups": groups, "texts": NAMES, "cases": cases}
path = Path(__file__).parent / "__fixtures__" / "python-patterns.json"
with path.open("w") as file:
    for key, value in fixture.items():
        rows = json.dumps(value) if key not in ("cases", "groups") else "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        file.write(f'{"{" if key == "versions" else ","}{json.dumps(key)}: {rows}\n')
    file.write("}\n")
print(len(cases), "patterns,", sum(isinstance(result, dict) for _, result in cases), "errors")
