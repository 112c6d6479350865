//! The metadata reader against PyYAML, which wrote every metadata file there is and is the judge of what one means.
//!
//! Four kinds of documents go to both: made by hand, single scalars, dumps of PyYAML's own, and mutations. The
//! reader's events come from a parser of YAML 1.2, so the two do not take exactly the same documents; what must not
//! happen is that both take one and see different things in it. Every known disagreement is in a list below.

use crate::support::python;
use serde_json::{Map, Value};
use std::io::Write;
use std::process::{Command, Stdio};

const ORACLE: &str = include_str!("pyyaml_oracle.py");

/// Documents that both read alike or both refuse. One stands on a line or between two `¦`; `⏎` is a line feed, `␍` a
/// carriage return, `⇥` a tab, `␠` a space at an end.
const ALIKE: &str = r###"
# only a comment ¦ --- ¦ ---⏎ ¦ ---⏎... ¦ ⏎⏎ ¦ ␍⏎ ¦ a ¦ a⏎ ¦ 'a' ¦ "a" ¦ ~ ¦ null ¦ 1 ¦ [] ¦ {} ¦ [[]] ¦ {}⏎a ¦ a:
a:⏎ ¦ - ¦ -⏎- ¦ a: 1⏎b: 2 ¦ a: 1⏎a: 2 ¦ a: 1⏎b: 2⏎a: 3 ¦ b: 1⏎a: 2 ¦ a:1 ¦ a :1 ¦ a : 1 ¦ a:  1 ¦ a: 1␠ ¦ a : ¦ a:⏎b:
a:⏎  b: ¦ a:⏎  b: 1⏎ c: 2 ¦ a:⏎ b: 1⏎  c: 2 ¦ ␠a: 1⏎ b: 2 ¦ ␠a: 1⏎b: 2 ¦ a: b: c ¦ a: 'b' c ¦ a: [b] c ¦ a: - b
- a⏎- b ¦ -a ¦ - - a ¦ - - a⏎  - b⏎- c ¦ -⏎  - a ¦ a:⏎- b⏎- c ¦ a:⏎  - b⏎  - c ¦ a:⏎- b⏎c: d ¦ a:⏎- b⏎ - c ¦ - a⏎ - b
- a: 1⏎  b: 2⏎- c ¦ - a: 1⏎ b: 2 ¦ -   a: 1⏎    b: 2 ¦ - a⏎b: c ¦ a: b⏎- c ¦ - - - ¦ -⏎-⏎- a ¦ - ⏎ a ¦ [a, b]
[a, b,] ¦ [a,, b] ¦ [,] ¦ [, a] ¦ [a b] ¦ [a⏎b] ¦ [a,⏎b] ¦ [⏎a⏎,⏎b⏎] ¦ a: [b,⏎c] ¦ a: [⏎b⏎] ¦ a: [⏎] ¦ a: {⏎}
a: {⏎b: 1⏎} ¦ [a: b] ¦ [a: b, c] ¦ [a: ] ¦ [a:] ¦ [:a] ¦ [a:b] ¦ [a: b: c] ¦ [? a] ¦ [? a : b] ¦ [a?b] ¦ [a ? b]
[- a] ¦ [-a] ¦ [--] ¦ [a]b ¦ [a] # c ¦ [a ¦ a] ¦ [a} ¦ {a: 1} ¦ {a: 1, b: 2} ¦ {a: 1,} ¦ {a} ¦ {a, b: 1} ¦ {a:1}
{"a":1} ¦ {'a':1} ¦ {"a" :1} ¦ {a: } ¦ {a:} ¦ {a :b} ¦ {:a} ¦ {? a} ¦ {? a : b} ¦ {a?: b} ¦ {a: b: c} ¦ {a: b:c}
{a: :b} ¦ {,} ¦ {a,,b} ¦ {a: [b, {c: d}]} ¦ {a: 1, a: 2} ¦ {a: 1}} ¦ {a: 1 ¦ {[a]: b} ¦ {{a: b}: c} ¦ {a:⏎b}
{a b: c} ¦ {a b} ¦ {"a": "b","c":"d"} ¦ {"a":[1],"b":{"c":null}} ¦ ["a":1] ¦ ["a": 1] ¦ {http://a: b}
{a: http://b/c} ¦ [http://a?b=c] ¦ {a: 12:30:45} ¦ a: 'b' ¦ a: '' ¦ a: "" ¦ a: 'it''s' ¦ a: 'b⏎  c' ¦ a: 'b⏎⏎  c'
a: 'b⏎c' ¦ a: 'b ⏎ c' ¦ a: ' b ' ¦ a: '⏎' ¦ a: '⏎⏎' ¦ a: 'b ¦ a: 'b"c' ¦ a: "b'c" ¦ a: 'b\n' ¦ 'a': 1 ¦ 'a' : 1
'a':1 ¦ "a":1 ¦ 'a⏎b': 1 ¦ '# a' ¦ 'a # b' ¦ 'a' # b ¦ 'a' b ¦ 'a: b' ¦ '--- a' ¦ a: '⏎--- ⏎b' ¦ a: '⏎...⏎b'
a: 'b⇥c' ¦ a: '⇥b' ¦ a: 'b⏎⇥c' ¦ a: "b⏎⇥c" ¦ '' : 1 ¦ "\n" ¦ "\t" ¦ "\0" ¦ "\a\b\e\f\v\r" ¦ "\x41" ¦ "\u00e9"
"\U0001F600" ¦ "\ud83d\ude00" ¦ "\ud83d" ¦ "\ude00" ¦ "\U00110000" ¦ "\ud83dx" ¦ "\/" ¦ "\'" ¦ "\"" ¦ "\\" ¦ "\ "
"\N\_\L\P" ¦ "\q" ¦ "\x4" ¦ "\u41" ¦ "\xzz" ¦ "\ ¦ "a\⏎  b" ¦ "a \⏎  b" ¦ "a⏎  b" ¦ "a⏎⏎  b" ¦ "a\⏎⏎  b" ¦ "a \⏎  \ b"
"a⏎  \  b" ¦ " a " ¦ "⏎a⏎" ¦ "\⏎a" ¦ "a\␍⏎b" ¦ "a␍⏎b" ¦ "a␍b" ¦ "\⇥" ¦ "a⇥⏎b" ¦ "a\n⏎b" ¦ "a  ⏎  b" ¦ "a\x20⏎b"
"a⏎\x20b" ¦ "\u2028" ¦ "\ufeff" ¦ "\uFFFF" ¦ a: |⏎  b⏎ ¦ a: |⏎  b ¦ a: |-⏎  b⏎ ¦ a: |+⏎  b⏎ ¦ a: |+⏎  b ¦ a: |⏎  b⏎⏎
a: |-⏎  b⏎⏎ ¦ a: |+⏎  b⏎⏎ ¦ a: |⏎  b⏎  c⏎ ¦ a: |⏎  b⏎⏎  c⏎ ¦ a: |⏎  b⏎   c⏎ ¦ a: |⏎⏎  b⏎ ¦ a: |⏎   ⏎  b⏎ ¦ a: |⏎ ⏎  b⏎
a: |⏎  b⏎ c⏎ ¦ a: |⏎b⏎ ¦ a: | ⏎  b⏎ ¦ a: | # c⏎  b⏎ ¦ a: |# c⏎  b⏎ ¦ a: |2⏎   b⏎ ¦ a: |1⏎  b⏎ ¦ a: |2-⏎   b⏎
a: |-2⏎   b⏎ ¦ a: |+1⏎  b⏎⏎ ¦ a: |0⏎  b ¦ a: |10⏎  b ¦ a: |3⏎  b⏎ ¦ a: |-+⏎ b ¦ a: |x⏎ b ¦ a: |⏎ ¦ a: | ¦ a: |-⏎
a: |+⏎ ¦ a: |+⏎⏎⏎ ¦ a: |⏎⏎⏎ ¦ a: |⏎b: c⏎ ¦ a: |+⏎⏎b: c⏎ ¦ a: |⏎  b⏎c: d⏎ ¦ a: |⏎  b⏎⏎c: d⏎ ¦ a: |+⏎  b⏎⏎c: d⏎
a: |⏎  b⏎# c⏎ ¦ a: |⏎  b⏎ # c⏎ ¦ a: |⏎  b⏎  # c⏎ ¦ a: |⏎  b⏎# c⏎d: e⏎ ¦ a: |⏎⇥b⏎ ¦ a: |⏎ ⇥b⏎ ¦ a: |⏎  b⇥⏎  ⇥c⏎
a: |⏎  b ⏎  c  ⏎ ¦ a: |⏎  --- b⏎ ¦ a: |⏎    b⏎   c⏎ ¦ a: |⏎  b␍⏎  c␍⏎ ¦ a: |⏎  b⏎    ⏎ ¦ a: |+⏎  b⏎    ⏎
a: |-⏎  b⏎    ⏎ ¦ a: |⏎  b⏎ ⏎  c⏎ ¦ a: |⏎  b⏎   ⏎  c⏎ ¦ --- |⏎ a⏎ ¦ |⏎ a⏎ ¦ |⏎  a⏎ b⏎ ¦ - |⏎ a⏎- b ¦ - |⏎  a⏎ ¦ - |⏎a
- - |⏎   a⏎ ¦ - |1⏎  a⏎ ¦ - a: |⏎    b⏎ ¦ - a: |⏎   b⏎  c: d⏎ ¦ - a: |1⏎    b⏎ ¦ a:⏎- |⏎ b⏎ ¦ a:⏎- |1⏎  b⏎
a:⏎  b: |⏎   c⏎  d: e ¦ a:⏎  b: |⏎  c⏎ ¦ ? |⏎  a⏎: b ¦ [|⏎ a] ¦ {a: |⏎ b} ¦ a: >⏎  b⏎  c⏎ ¦ a: >-⏎  b⏎  c⏎
a: >+⏎  b⏎  c⏎⏎ ¦ a: >⏎  b⏎⏎  c⏎ ¦ a: >⏎  b⏎⏎⏎  c⏎ ¦ a: >⏎  b⏎   c⏎  d⏎ ¦ a: >⏎  b⏎⏎   c⏎⏎  d⏎ ¦ a: >⏎   b⏎  c⏎
a: >⏎⏎  b⏎  c⏎ ¦ a: >⏎  b ⏎  c⏎ ¦ a: >⏎  b⏎  ⇥c⏎  d⏎ ¦ a: >⏎ ¦ a: > ¦ a: >-⏎⏎  b ¦ a: >2⏎   b⏎   c⏎
a: >⏎  b⏎   ⏎  c⏎ ¦ a: >⏎  b⏎  - c⏎  - d⏎ ¦ a: >⏎  b⏎⏎    c⏎    d⏎⏎  e⏎ ¦ a: >+⏎  b⏎⏎⏎ ¦ a: >-⏎  b⏎⏎⏎c: d
a: >⏎    b⏎⏎    c⏎ ␠ ¦ a: >2⏎⏎    b⏎  c⏎ ¦ a: >b ¦ a: > b ¦ - >⏎ a⏎ b⏎- c ¦ a: b⏎  c ¦ a: b⏎⏎  c ¦ a: b⏎ c⏎ d ¦ a: b⏎c
a:⏎  b⏎  c ¦ a: b⏎  c: d ¦ a⏎b ¦ a⏎b: c ¦ a⏎ b: c ¦ - a⏎  b ¦ - a⏎b ¦ - a⏎ b ¦ a: b # c⏎  d ¦ a: b⏎  # c⏎  d
a: b⏎  #c ¦ a: b#c ¦ a: b #c ¦ a: #b ¦ a: # b⏎  c ¦ a: # b ¦ a #b: c ¦ a# b: c ¦ #a: b ¦ a: b⏎# c⏎d: e
a: b⏎ # c⏎d: e ¦ # c⏎a: b ¦ a: b⏎  - c ¦ a: b⏎  -c ¦ - a⏎  - b ¦ a: b⏎  ? c ¦ a: b⏎  [c] ¦ a: b⏎  'c' ¦ a: b⏎  &c
a: b⏎ ...⏎ ¦ a: b⏎...⏎ ¦ a: b⏎--- ¦ a⏎---⏎ ¦ a: b⏎ ---⏎ ¦ a: b⏎ --- c ¦ a: b  c ¦ a: b ⏎  c ¦ a: - ¦ a: -b ¦ a: -1
a: -- ¦ a: --- ¦ a: ... ¦ a: ?b ¦ a: ? b ¦ a: ? ¦ a: :b ¦ a: : b ¦ a: :: ¦ a: , ¦ a: b, c ¦ a: ,b ¦ a: % ¦ a: %b
a: @b ¦ a: `b ¦ a: |b ¦ a: &b ¦ a: & b ¦ a: * b ¦ a: *b ¦ a: ! ¦ a: !b ¦ a: ] ¦ a: } ¦ a: b] ¦ a: b} ¦ a: [ ¦ a: {
a: b[c] ¦ a: b{c} ¦ a: <b> ¦ a: =b ¦ a: $b ¦ a: ^b ¦ a: \b ¦ a: /b ¦ a: ~b ¦ a: (b) ¦ a: b'c ¦ a: b"c ¦ a: b: ¦ a: b:c
a: b::c ¦ a: b :c ¦ a: b : c ¦ a:: b ¦ a:b: c ¦ a::b ¦ a: é ¦ é: 1 ¦ a: 日本語 ¦ a: 🛰 ¦ -: a ¦ -1: a ¦ ?a: b ¦ :a: b
%a: b ¦ @a ¦ `a ¦ ,a ¦ ]a ¦ }a ¦ a: %⏎ ¦ %⏎ ¦ ? a⏎: b ¦ ? a ¦ ? a⏎? b ¦ ? a⏎: b⏎? c⏎: d ¦ ? a⏎: b⏎c: d ¦ ? [a]⏎: b
? {a: b}⏎: c ¦ ? - a⏎: - b ¦ ? a: b⏎: c ¦ ? a⏎: - b⏎  - c ¦ ? a⏎:⏎  b ¦ ? a : b ¦ ? 'a'⏎: b ¦ ? "a⏎  b"⏎: c ¦ ? a⏎b
- ? a⏎  : b ¦ - ? a⏎- b ¦ ? a⏎ : b ¦ ?a⏎: b ¦ ? a⏎:b ¦ [a]: b ¦ {a: b}: c ¦ []: a ¦ {}: a ¦ ? >⏎ a⏎ b⏎: c
a: &x 1⏎b: *x ¦ a: &x [1, 2]⏎b: *x ¦ a: &x {b: 1}⏎c: *x ¦ a: &x⏎  b: 1⏎c: *x ¦ a: &x⏎- b⏎c: *x ¦ &x a: *x
&x a: 1⏎b: *x ¦ - &x a⏎- *x ¦ - &x⏎- *x ¦ &x⏎a: 1 ¦ &x⏎- 1 ¦ &x {a: 1} ¦ &x [1] ¦ &x 'a' ¦ --- &x a ¦ a: &x
a: &x⏎b: *x ¦ a: &x 1⏎b: &x 2 ¦ a: *x⏎b: &x 1 ¦ a: &x [*x] ¦ &x {a: *x} ¦ [&x a, *x] ¦ {a: &x 1, b: *x}
{&x a: 1, *x : 2} ¦ {&x a: 1, b: *x} ¦ *x : 1 ¦ [&a a, *a ] ¦ [&a a,*a] ¦ {&a a: b, c: *a} ¦ [&a a, {*a : b}]
a: &x *y ¦ a: *x b ¦ a: &x-y_1 1⏎b: *x-y_1 ¦ a: &x.y 1⏎b: *x.y ¦ a: &é 1⏎b: *é ¦ &a : b ¦ a: &b: c ¦ a: &x &y b
a: &x,b c ¦ [&x, b] ¦ [&x] ¦ {&x} ¦ {&x : a} ¦ - &x a⏎- *x : b ¦ a: &x |⏎  b⏎c: *x ¦ a: &x b⏎  c⏎d: *x
- &x [1]⏎- {*x : 1} ¦ - &x a⏎- ? *x⏎  : b ¦ a: &x {b: 1}⏎c: {<<: *x} ¦ a: &x {b: 1, c: 2}⏎d: {<<: *x, c: 3}
a: &x {b: 1, c: 2}⏎d: {c: 3, <<: *x} ¦ <<: {a: 1} ¦ <<: [{a: 1}, {a: 2, b: 3}] ¦ <<: [] ¦ <<: {} ¦ <<: 1 ¦ <<: [1]
<<: ~ ¦ <<: ¦ "<<": 1 ¦ '<<': {a: 1} ¦ a: << ¦ - << ¦ << ¦ <<: {a: 1}⏎<<: {a: 2, b: 3} ¦ <<: {<<: {a: 1}, b: 2}⏎c: 3
{<<: {a: 1}, a: 2} ¦ {a: 2, <<: {a: 1, b: 3}} ¦ a: {<<: {b: 1}}⏎<<: {c: 1} ¦ <<: [[{a: 1}]] ¦ ? <<⏎: {a: 1} ¦ <<a: 1
a: <<b ¦ !!str <<: 1 ¦ ! <<: {a: 1} ¦ <<: [{b: 1, a: 1}, {c: 2, b: 2}]⏎a: 0
x: &x {a: 1, b: 2}⏎y: &y {<<: *x, a: 3}⏎z: {<<: [*y, *x]} ¦ x: &x {a: 1}⏎y: {<<: *x, b: 2, <<: *x} ¦ {<<}
[<<: {a: 1}] ¦ [<<] ¦ =: 1 ¦ a: = ¦ - = ¦ = ¦ {=: 1} ¦ "=": 1 ¦ ==: 1 ¦ a: == ¦ a: !!str 1 ¦ a: !!str ¦ a: !!str yes
a: !!int 1 ¦ a: !!int '1' ¦ a: !!int 0x1F ¦ a: !!int a ¦ a: !!int 1.5 ¦ a: !!int '' ¦ a: !!int 1_000 ¦ a: !!int 017
a: !!int 1:30 ¦ a: !!int -5 ¦ a: !!float 1 ¦ a: !!float 1.5 ¦ a: !!float 1e5 ¦ a: !!float '1' ¦ a: !!float a
a: !!float .inf ¦ a: !!float -.INF ¦ a: !!float nan ¦ a: !!float inf ¦ a: !!float infinity ¦ a: !!float 1:30
a: !!float 1_0.5 ¦ a: !!float '' ¦ a: !!bool yes ¦ a: !!bool yEs ¦ a: !!bool y ¦ a: !!bool 'no' ¦ a: !!bool 1
a: !!null ¦ a: !!null ~ ¦ a: !!null a ¦ a: !!null '' ¦ a: !!timestamp 2023-10-31 ¦ a: !!timestamp '2023-10-31'
a: !!timestamp x ¦ a: !!binary aGVsbG8= ¦ a: !!binary |⏎  aGVs⏎  bG8=⏎ ¦ a: !!binary [a] ¦ a: !!seq [1]
a: !!seq {b: 1} ¦ a: !!seq b ¦ a: !!map {b: 1} ¦ a: !!map [b] ¦ a: !!map b ¦ a: !!str [b] ¦ a: !!str {b: 1}
a: !!int [1] ¦ a: !!null [] ¦ a: !!null {} ¦ a: !!bool {} ¦ a: !!set {b, c} ¦ a: !!set {b: 1, c: ~}
a: !!set⏎  ? b⏎  ? c ¦ a: !!set {} ¦ a: !!set [b] ¦ a: !!omap [b: 1, c: 2] ¦ a: !!omap⏎- b: 1⏎- c: 2
a: !!pairs [b: 1, b: 2] ¦ a: !!omap [b] ¦ a: !!omap [{b: 1, c: 2}] ¦ a: !!omap {b: 1} ¦ a: !!omap [] ¦ a: !!pairs []
a: !!omap [{}] ¦ !!set {a: 1}⏎ ¦ a: !!set {<<: {b: 1}, c: 2} ¦ a: !!omap x ¦ a: !b c ¦ a: ! 1 ¦ a: ! '1' ¦ a: ! [1]
a: ! {b: 1} ¦ a: !⏎  b: 1 ¦ a: !<tag:yaml.org,2002:str> 1 ¦ a: !<tag:yaml.org,2002:int> '1' ¦ a: !<!b> c ¦ a: !<!> 1
a: !!python/tuple [1] ¦ a: !!python/name:os.system ¦ a: !!foo b ¦ a: !b!c d
%TAG !y! tag:yaml.org,2002:⏎---⏎a: !y!str 1 ¦ %TAG !! tag:x.org,2000:⏎---⏎a: !!str 1
%TAG ! tag:yaml.org,2002:⏎---⏎a: !str 1 ¦ %TAG !y! tag:yaml.org,2002:s⏎---⏎a: !y!tr 1 ¦ a: !!s%74r 1
a: !!str &x 1⏎b: *x ¦ a: &x !!str 1⏎b: *x ¦ !!str a: 1 ¦ !!int '1': a ¦ !!map⏎a: 1 ¦ !!seq⏎- 1 ¦ --- !!str 1
a: !!str⏎b: 1 ¦ - !!str⏎- !!str ¦ [!!str 1, !!int '2'] ¦ {!!str : a} ¦ a: !!str,b ¦ a: !!merge x ¦ a: !!value x
a: !!str !!int 1 ¦ a: !!str |⏎  1⏎ ¦ a: !!int >-⏎  1⏎ ¦ a: !!bool >-⏎  yes⏎ ¦ !!null a: 1 ¦ !!bool yes: 1
!!timestamp 2023-10-31: 1 ¦ a: !!yaml b ¦ %YAML 1.1⏎---⏎a: 1 ¦ %YAML 1.2⏎---⏎a: yes ¦ %YAML 1.3⏎---⏎a
%YAML 2.0⏎---⏎a ¦ %YAML 1⏎---⏎a ¦ %YAML⏎---⏎a ¦ %YAML 1.1⏎%YAML 1.1⏎---⏎a ¦ %YAML 1.1 # c⏎---⏎a ¦ %FOO bar⏎---⏎a
%YAML 1.1⏎a: 1 ¦ %YAML 1.1 ¦ %YAML 1.1⏎--- ¦ %TAG⏎---⏎a ¦ %TAG !a! b⏎%TAG !a! c⏎---⏎d ¦ # c⏎%YAML 1.1⏎---⏎a
a⏎%YAML 1.1⏎---⏎b ¦ a: b⏎%c ¦ a: |⏎  b⏎%c ¦ ⏎%YAML 1.1⏎---⏎a ¦ %YAML 1.1⏎---⏎%a ¦ --- a ¦ --- a: b ¦ --- {a: b}
--- [a] ¦ ---a ¦ --- # c⏎a: b ¦ ---⏎a: b ¦ ---⏎---⏎ ¦ --- a⏎--- b ¦ --- a⏎---⏎ ¦ a⏎--- b ¦ a⏎... ¦ a⏎...⏎... ¦ a⏎...⏎b
a⏎...⏎---⏎b ¦ a⏎...⏎# c ¦ a⏎... # c ¦ a⏎... b ¦ ---⏎...⏎---⏎... ¦ --- |⏎  a⏎...⏎ ¦ --- - a ¦ --- 'a⏎ b' ¦ --- "a"
---⏎'a' ¦ --- >⏎  a⏎  b⏎ ¦ --- !!map⏎a: 1 ¦ --- &x⏎a: 1 ¦ ----⏎ ¦ --- --- ¦ -- a ¦ .... ¦ a: |⏎ b⏎--- ¦ [⏎---⏎]
'a⏎---⏎b' ¦ a:⏎⇥b: c ¦ a:⏎⇥b ¦ a: b⏎⇥c ¦ -⇥- a ¦ a: [⏎⇥b⏎] ¦ a: [⏎⇥] ¦ a: 1␍⏎b: 2␍⏎ ¦ a: 1␍b: 2␍ ¦ a: b␍⏎  c␍⏎
a: |␍⏎  b␍⏎  c␍⏎ ¦ a: >␍⏎  b␍⏎  c␍⏎ ¦ - a␍⏎- b ¦ # c␍⏎a: b ¦ a: 'b␍⏎  c' ¦ ---␍⏎a ¦ a␍⏎...␍⏎ ¦ a: "b\␍⏎  c"
a: |␍  b␍  c␍ ¦ a: b␍␍  c ¦ 1: a ¦ 1.0: a ¦ 1.5: a ¦ 1.0e+20: a ¦ 1.0e+16: a ¦ 1.0e-5: a ¦ 0.00001234: a ¦ 0.0001: a
123456789012345678.0: a ¦ -0.0: a ¦ true: a ¦ no: a ¦ ~: a ¦ null: a ¦ 0x1F: a ¦ 1_000: a ¦ 12:30: a ¦ 2023-10-31: a
.inf: a ¦ 1: a⏎"1": b ¦ 1: a⏎01: b ¦ '': a ¦ ~: a⏎null: b ¦ yes: a⏎true: b ¦ 1.0: a⏎1.00: b ¦ 18446744073709551616: a
{1: a, 2.5: b, ~: c} ¦ 1.0e+100: a ¦ 1.0e-100: a ¦ 5.0e-324: a
interface: http://schema.skao.int/ska-data-product-meta/0.1⏎execution_block: eb-test-20230401-12345⏎
files:⏎- crc: 00000000⏎  path: ./output.ms⏎  size: 0⏎- crc: 12345e10⏎  status: done⏎
config:⏎  cmdline: "-dump /product/eb-test/vis.ms"⏎  commit: 516fb5a693f9dc9aff5d46192f4e055b582fc025⏎  image: ''⏎  version: 0.8.0⏎
obscore:⏎  s_ra: 10.20304⏎  s_dec: -26.70312⏎  t_exptime: 86.4⏎  target_name:⏎  o_ucd: null⏎  pol_states: /XX/XY/YX/YY/⏎
context: {observer: AIV_person_1, intent: 'Experimental: run', notes: "Running"}⏎
files: [{path: a, status: done, size: 1}, {path: b, crc: 1e5}]⏎
a:⏎  - b: 1⏎    c:⏎      - d⏎      -⏎        e: f⏎  - g⏎h: i ¦ commit: 1234567890123456789012345678901234567890⏎
crc: 00000e00 ¦ crc: 0123_567 ¦ crc: '12345678' ¦ crc: 12345678 ¦ crc: 01234567 ¦ crc: 0x123456 ¦ crc: 1234567. ¦ : a
: ¦ [: a] ¦ [:] ¦ {: a} ¦ {:} ¦ a: b⏎: c
"###;

/// Line breaks of YAML 1.1 in quotes: what both read alike or both refuse.
const BREAKS: &str = "'a\u{85}b' ¦ 'a\u{2028}b' ¦ \"a\u{2029}b\" ¦ a: 'b\u{85}\u{85}c' ¦ a: 'b \u{2028} \u{2028} c' ¦ a: 'b\u{2028}⏎ c' \
    ¦ a: 'b⏎\u{2028} c' ¦ a: 'b␍⏎\u{85}c' ¦ a: \"b\\\u{85} c\" ¦ a: \"b\\\\\u{2028}c\" ¦ a: \"b\\\u{2028} \u{2028}\\n c\" \
    ¦ a: '\u{2028}' ¦ a: '\u{85}' ¦ a: 'b\u{2028}--- c' ¦ a: 'b\u{85}...⏎' ¦ a: 'b\u{2028}---' ¦ a: 'b\u{2028}---c' ¦ 'a\u{85}b': c \
    ¦ {'a\u{2028}b': c} ¦ ['a\u{2028}b': c] ¦ {a: 'b\u{2028}c', d: e} ¦ - 'a\u{85}b'⏎- \"c\u{2029}d\" \
    ¦ a: &x 'b\u{2028}c'⏎d: *x ¦ a: 'it''s\u{2028}''' ¦ a: \"\\x41\u{2028}\\u00e9\\\"\" ¦ a: 'b\u{2028}c' d";

/// Documents of which the two are known not to think alike, and why. PyYAML writes none of it, but for raw U+0085 and
/// U+2028 in keys and block scalars when it is told to keep all of Unicode.
const KNOWN: &[(Verdict, &str, &str)] = &[
    (
        Verdict::Lenient,
        "a tab may separate in YAML 1.2, and nowhere in PyYAML",
        r#"
⇥ ¦ a:⇥b ¦ a: ⇥b ¦ a: b⇥ ¦ a: b⇥c ¦ a: b⇥# c ¦ a: b ⇥# c ¦ ⇥a: b ¦ a:⏎ ⇥b: c ¦ a:⇥⏎  b ¦ a: b⏎⇥ ¦ a: b⏎⇥⏎c: d
-⇥a ¦ - ⇥a ¦ [a,⇥b] ¦ [⇥a] ¦ {a:⇥b} ¦ {⇥a: b} ¦ [a⇥] ¦ a⇥: b ¦ ?⇥a ¦ a: 'b'⇥ ¦ a: "b"⇥# c ¦ a: |⇥⏎  b ¦ a: |⏎  b⏎⇥⏎
a: b⏎⇥# c ¦ ⇥# c⏎a: b ¦ a: !!str⇥1 ¦ ---⇥a
"#,
    ),
    (Verdict::Lenient, "a document may start with an end in YAML 1.2", "... ¦ ...⏎a"),
    (Verdict::Lenient, "a key in '{…}' may end on another line in YAML 1.2", "{a⏎: b}"),
    (Verdict::Lenient, "a tag ends at ',' and '}' in YAML 1.2", "[!!str, b] ¦ {a: !!str}"),
    (Verdict::Lenient, "a block scalar that is all of a document need not be indented in YAML 1.2", "--- |⏎a⏎"),
    (Verdict::Strict, "a comment needs a space before it in YAML 1.2", "[a]# c ¦ 'a'# b"),
    (Verdict::Strict, "'-' before an indicator is no text in YAML 1.2", "[-]"),
    (Verdict::Strict, "'?' in '[…]' and '{…}' means two things; refused", "[?] ¦ {?} ¦ {?a: b}"),
    (Verdict::Strict, "a key that is left out is taken for a slip", "? ¦ ?⏎ ¦ ?⏎: a ¦ ? ⏎: ¦ {? } ¦ {? : a}"),
    (Verdict::Strict, "a block scalar's head stands at the margin", "a:⏎|-⏎  b ¦ -⏎>⏎ a"),
    (
        Verdict::Strict,
        "what Python's int and float take besides",
        "!!int '--5' ¦ !!int ' 5 ' ¦ !!int '1\u{85}' ¦ !!float ' 5.0 ' ¦ !!int 0o17",
    ),
    (Verdict::Strict, "':' may be part of an alias in YAML 1.2", "- &x a⏎- *x: b ¦ - &x a⏎- {*x: b} ¦ - &x a⏎- [*x:]"),
    (Verdict::Strict, "'&a:' means two things; refused", "&a: b"),
    (
        Verdict::Strict,
        "a raw U+0085, U+2028 or U+FEFF means two things outside of quotes, and in a key; refused",
        "a\u{2028}b ¦ a: b\u{85}c: d ¦ a: |⏎  b\u{2028}  c ¦ # a\u{2029}b: c ¦ a: b\u{feff} ¦ ? 'a\u{2028}b'⏎: c",
    ),
    (Verdict::Strict, "deeper than the reader goes", DEEP),
    (Verdict::Differ, "1, 1.0 and true are one key in Python", "{1: a, true: b} ¦ {1: a, 1.0: b} ¦ {no: a, 0: b}"),
    (Verdict::Differ, "a block scalar that is not indented, in which PyYAML sees a comment", "|⏎#a⏎"),
    (Verdict::Differ, "'!' on a block scalar; PyYAML looks past the line feed at its end", "a: ! |⏎  1⏎"),
];

/// 101 lists in each other.
const DEEP: &str = concat!(
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"
);

/// Metadata as a producer writes it.
const METADATA: &str = r##"interface: http://schema.skao.int/ska-data-product-meta/0.1
execution_block: eb-test-20230401-12345
context:
  observer: AIV_person_1
  notes: Running that signal through again, things seem a bit flaky and the line goes
    on here; "quoted", 'twice' #1
config: &id001
  cmdline: "-dump /product/eb-test-20230401-12345/\
    \ vis.ms\n"
  commit: 516fb5a693f9dc9aff5d46192f4e055b582fc025
  image: ''
again: *id001
files:
- {crc: 12345e10, path: ./a.ms, size: 0, status: done}
- crc: '00000000'
  description: |-
    MS for

      scan 1
  ? sizes
  : - 0x1F
    - 12:30:45
obscore:
  s_ra: 10.20304
  t_min: 1.9304508625e+4
  target_name: null # none
  pol_states: /XX/XY/YX/YY/
  o_ucd: >
    stat.fourier
    stat.max
...
"##;

/// How a document fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The same value, to the last bit and in the same order; or both refuse.
    Same,
    /// Two values: what must not be.
    Differ,
    /// Read, though PyYAML refuses it.
    Lenient,
    /// Refused, though PyYAML reads it.
    Strict,
}

/// One document and both answers.
struct Case {
    bytes: Vec<u8>,
    ours: Result<Value, String>,
    theirs: Result<Value, String>,
}

/// As text the order of keys counts, and 1, 1.0, 0.0 and -0.0 are four values.
fn exact(value: &Value) -> String {
    value.to_string()
}

impl Case {
    fn new(bytes: Vec<u8>, theirs: Result<Value, String>) -> Self {
        let ours = shared::yaml::parse(&bytes).map_err(|e| e.to_string());
        Case { bytes, ours, theirs }
    }

    fn verdict(&self) -> Verdict {
        match (&self.ours, &self.theirs) {
            (Ok(ours), Ok(theirs)) if exact(ours) != exact(theirs) => Verdict::Differ,
            (Ok(_), Err(_)) => Verdict::Lenient,
            (Err(_), Ok(_)) => Verdict::Strict,
            _ => Verdict::Same,
        }
    }

    fn show(&self) -> String {
        let side = |answer: &Result<Value, String>| match answer {
            Ok(value) => value.to_string(),
            Err(e) => format!("refused: {}", e.replace('\n', " ")),
        };
        let text = String::from_utf8_lossy(&self.bytes);
        format!("{:?} {text:?}\n    ours   {}\n    PyYAML {}", self.verdict(), side(&self.ours), side(&self.theirs))
    }
}

/// Runs the oracle to its end and returns its lines.
fn oracle(args: &[&str], input: &[u8]) -> Vec<Value> {
    let mut child = Command::new(python())
        .args(["-c", ORACLE])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle starts");
    // It reads all its input before it answers, so neither side waits for the other.
    child.stdin.take().expect("a pipe").write_all(input).expect("the oracle reads");
    let output = child.wait_with_output().expect("the oracle ends");
    assert!(output.status.success(), "the oracle failed");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn answer(line: &Value) -> Result<Value, String> {
    match (line.get("ok"), line.get("error")) {
        (Some(value), _) => Ok(unwrap_floats(value)),
        (None, error) => Err(error.and_then(Value::as_str).unwrap_or("no answer").to_owned()),
    }
}

/// The oracle writes a float as its bits.
fn unwrap_floats(value: &Value) -> Value {
    match value {
        Value::Object(map) => match map.get("\0float").and_then(Value::as_str) {
            Some(bits) => f64::from_bits(u64::from_str_radix(bits, 16).expect("hex")).into(),
            None => map.iter().map(|(k, v)| (k.clone(), unwrap_floats(v))).collect::<Map<_, _>>().into(),
        },
        Value::Array(items) => items.iter().map(unwrap_floats).collect(),
        other => other.clone(),
    }
}

/// Both answers to each document.
fn judge(documents: Vec<Vec<u8>>) -> Vec<Case> {
    let mut input = Vec::new();
    for document in &documents {
        input.extend_from_slice(format!("{}\n", document.len()).as_bytes());
        input.extend_from_slice(document);
    }
    let lines = oracle(&["load"], &input);
    assert_eq!(lines.len(), documents.len());
    documents.into_iter().zip(&lines).map(|(bytes, line)| Case::new(bytes, answer(line))).collect()
}

fn written(list: &str) -> Vec<Vec<u8>> {
    let documents = list.trim_matches('\n').lines().flat_map(|line| line.split(" ¦ "));
    documents.map(|d| d.replace('⏎', "\n").replace('␍', "\r").replace('⇥', "\t").replace('␠', " ").into()).collect()
}

/// What text cannot say: encodings, and bytes that are none.
fn encoded() -> Vec<Vec<u8>> {
    let text = "a: é\nb: 🛰\n";
    let little: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
    let marked = format!("\u{feff}{text}").into_bytes();
    let mut documents =
        vec![b"".to_vec(), b"\xff".to_vec(), b"\xfe".to_vec(), b"a: \xff".to_vec(), b"a: \xc3".to_vec()];
    documents
        .extend([&b"a: \xed\xa0\x80"[..], b"a: \xc0\x80", b"a: \0b", b"\0", b"a: \x7f", b"a: \x1b[0m"].map(Vec::from));
    for whole in [little, big, marked, text.into()] {
        documents.extend((0..=whole.len()).map(|end| whole[..end].to_vec()));
    }
    documents
}

/// A small generator with a seed, so that every run sees the same documents.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % n
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn text(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

fn report(cases: &[&Case]) -> String {
    let shown: Vec<String> = cases.iter().take(20).map(|case| case.show()).collect();
    format!("{} documents:\n{}", cases.len(), shown.join("\n"))
}

fn assert_same(cases: &[Case]) {
    let wrong: Vec<&Case> = cases.iter().filter(|case| case.verdict() != Verdict::Same).collect();
    assert!(wrong.is_empty(), "{}", report(&wrong));
}

#[test]
fn documents_made_by_hand() {
    let mut documents = written(ALIKE);
    documents.extend(encoded());
    documents.extend(written(BREAKS));
    assert!(documents.len() > 750, "{}", documents.len());
    assert_same(&judge(documents));
}

/// Fails also when a disagreement is gone, so that the list stays true.
#[test]
fn known_disagreements() {
    let cases = judge(KNOWN.iter().flat_map(|(.., list)| written(list)).collect());
    let expected =
        KNOWN.iter().flat_map(|(verdict, reason, list)| written(list).into_iter().map(move |_| (verdict, reason)));
    for (case, (verdict, reason)) in cases.iter().zip(expected) {
        assert_eq!(case.verdict(), *verdict, "no longer so ({reason}): {}", case.show());
    }
}

/// A file that is still being written: every beginning of one. Two end in a `?` whose key is still to come.
#[test]
fn every_beginning_of_a_file() {
    assert_disagreements(&judge((0..=METADATA.len()).map(|end| METADATA.as_bytes()[..end].to_vec()).collect()), 0, 2);
}

/// Texts that are, or nearly are, numbers, booleans, nulls, dates and digests.
fn scalars() -> Vec<String> {
    let dice = &mut Dice(1);
    let mut texts = Vec::new();
    for _ in 0..700 {
        texts.push(dice.text("0123456789abcdef", 8));
        texts.push(dice.text("0123456789e", 8));
        texts.push(dice.text("01234567", 8));
        let digits = dice.text("0123456789", 7);
        texts.push(format!("{}e{}", &digits[..5], &digits[5..]));
        let length = 1 + dice.below(9);
        texts.push(dice.text("0123456789._-+eExob:", length));
        let length = 1 + dice.below(6);
        texts.push(dice.text("01.e+-_:", length));
        // Most of a number's parts, each now and then.
        let sign = dice.pick(&["", "", "", "-", "+"]);
        let prefix = dice.pick(&["", "", "", "0", "0x", "0b", "0o", "0X", "."]);
        let length = dice.below(6);
        let whole = dice.text("0123456789_", length);
        let tail = dice
            .pick(&["", "", ".", ".5", ".5_0", ":30", ":59:59", ":60", ":5.25", "e5", "e+5", ".0e-5", ".e+3", "E+400"]);
        texts.push(format!("{sign}{prefix}{whole}{tail}"));
    }
    for _ in 0..100 {
        texts.push(dice.text("0123456789abcdef", 40));
        texts.push(dice.text("0123456789", 40));
        texts.push(dice.text("0123456789", 19));
        let (a, b, c) = (dice.text("0123456789", 4), dice.text("0123", 2), dice.text("0123", 2));
        let time = dice.pick(&["", "T12:30:45", "T12:30:45.5Z", " 12:30:45", "t1:02:03 +1:30", "T12:30", "Z"]);
        texts.push(format!("{a}-{b}-{c}{time}"));
    }
    for word in
        ["yes", "no", "true", "false", "on", "off", "y", "n", "null", "none", "nan", ".inf", "-.inf", "+.nan", "~"]
    {
        for mask in 0..1u32 << word.len() {
            let cased = word.char_indices().map(|(at, c)| if mask >> at & 1 == 1 { c.to_ascii_uppercase() } else { c });
            texts.push(cased.collect());
        }
    }
    let edges = "9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615 \
        18446744073709551616 0x7fffffffffffffff 0xffffffffffffffff 0x10000000000000000 -0x8000000000000000 0777 -0777 +0777 \
        1777777777777777777777 01777777777777777777777 02000000000000000000000 00 -0 +0 0_ 0__0 0b 0x 0b_ 0x_ 0_b1 -0.0 +0.0 \
        1e5 1.e5 1.e+5 1.5e+308 1.8e+308 5.0e-324 1.0e-400 2.2250738585072011e-308 9007199254740993.0 0.1 0.30000000000000004 \
        1:0 1:00 1:000 0:1 00:1 1:60 1:59 -1:30 +1:30 1_0:30 1:3_0 1:30.5 -1:30.5_5 0:0.5 1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1 \
        1__0 _1 1_ 1_.5 1._5 1.5_ ._5 .5_5 .5e+5 -.5 +.5 .5.5 1.5.5 .. ... .-5 - + -- -+ +- 1- 1+ 0.8.0 1.2.3 1,5 1%";
    texts.extend(edges.split_whitespace().map(str::to_owned));
    texts
}

#[test]
fn single_scalars() {
    let texts = scalars();
    assert!(texts.len() > 5_000, "{}", texts.len());
    assert_same(&judge(texts.into_iter().map(|text| format!("a: {text}").into_bytes()).collect()));
}

/// The same scalars where the place, the style or a tag may make another thing of them.
#[test]
fn scalars_in_places() {
    let dice = &mut Dice(2);
    let scalars = scalars();
    let weird = written(
        "a b ¦ a:b ¦ a#b ¦ a: ¦ :a ¦ ?a ¦ ? a ¦ -a ¦ - a ¦ - ¦ a, ¦ [a ¦ a] ¦ {a ¦ <<: {b: 1} ¦ << ¦ = ¦ é ¦ 'a' ¦ \"a\"",
    );
    // `X` is the scalar.
    let places = "X ¦ - X ¦ [X] ¦ {a: X} ¦ X: a ¦ ? X⏎: a ¦ {X: a} ¦ [a: X] ¦ --- X ¦ a: X # c ¦ a:⏎  X⏎ ¦ a: &x X⏎b: *x \
        ¦ a: !!str X ¦ a: ! X ¦ a: !!int X ¦ a: !!float X ¦ a: !!bool X ¦ a: !!null X ¦ a: 'X' ¦ a: \"X\" ¦ a: !!int 'X' \
        ¦ a: !!float 'X' ¦ a: ! 'X' ¦ a: |⏎  X⏎ ¦ a: >-⏎  X⏎  X⏎ ¦ a: b⏎  X ¦ a: X⏎  b ¦ [X, X] ¦ {X, X} ¦ X: X \
        ¦ - X: X ¦ X⏎X";
    let places: Vec<&str> = places.split(" ¦ ").collect();
    let documents = (0..3_000).map(|_| {
        let place = dice.pick(&places).replace('⏎', "\n");
        let text = match dice.below(4) {
            0 => String::from_utf8_lossy(&weird[dice.below(weird.len())]).into_owned(),
            _ => scalars[dice.below(scalars.len())].clone(),
        };
        place.replace('X', &text).into_bytes()
    });
    assert_disagreements(&judge(documents.collect()), 0, 14);
}

/// What PyYAML writes is what producers write: it has to be read exactly, all of it.
#[test]
fn dumps() {
    let lines = oracle(&["dump", "1", "3000"], b"");
    assert_eq!(lines.len(), 3000);
    let case = |line: &Value| Case::new(line["doc"].as_str().expect("a document").into(), answer(line));
    let cases: Vec<Case> = lines.iter().map(case).collect();
    assert_same(&cases);
    let refused: Vec<&Case> = cases.iter().filter(|case| case.theirs.is_err()).collect();
    assert!(refused.is_empty(), "PyYAML reads what it writes: {}", report(&refused));
}

/// The line breaks that YAML 1.1 alone has, anywhere in quotes.
#[test]
fn old_line_breaks_in_quotes() {
    let dice = &mut Dice(4);
    let pieces = [
        "a", "b", " ", "  ", "\t", "\n", "\r\n", "\u{85}", "\u{2028}", "\u{2029}", "\u{85}", "\u{2028}", "''", "\\",
        "\\\\", "\\n", "\\ ", "---", "...", "#", ":", "é", "-", ",", "]",
    ];
    let places = [
        "a: X",
        "- X\n- b",
        "[X]",
        "{a: X, b: c}",
        "X",
        "a: &x X\nb: *x",
        "a: X # b",
        "a:\n  X",
        "a: !!str X",
        "[a, X ]",
    ];
    let documents = (0..4_000).map(|_| {
        let length = 1 + dice.below(8);
        let text: String = (0..length).map(|_| dice.pick(&pieces)).collect();
        let quoted = if dice.below(2) == 0 { format!("'{text}'") } else { format!("\"{text}\"") };
        dice.pick(&places).replace('X', &quoted).into_bytes()
    });
    let cases = judge(documents.collect());
    assert_disagreements(&cases, 0, 0);
    let read = cases.iter().filter(|case| case.theirs.is_ok()).count();
    assert!(read > 1_500, "{read}");
}

/// What PyYAML writes of such line breaks: read where it is in quotes, and refused in a key or a block scalar.
#[test]
fn dumps_of_old_line_breaks() {
    let lines = oracle(&["dump-breaks", "1", "600"], b"");
    let case = |line: &Value| Case::new(line["doc"].as_str().expect("a document").into(), answer(line));
    let cases: Vec<Case> = lines.iter().map(case).collect();
    assert_disagreements(&cases, 0, 450);
}

/// Documents with an accident: a byte changed, put in or taken out, an end cut off, a piece said twice.
#[test]
fn mutations() {
    let dice = &mut Dice(3);
    let mut sources = written(ALIKE);
    let lines: Vec<&str> = METADATA.lines().collect();
    for at in 0..lines.len() {
        sources.push(lines[at..lines.len().min(at + 6)].join("\n").into_bytes());
    }
    let signs = b" \n\t\r:-?,[]{}#&*!|>'\"%@`\\~<=.0e_+ab\xc3\xa9";
    let documents = (0..6_000).map(|_| {
        let mut bytes = sources[dice.below(sources.len())].clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len() + 1);
            let end = bytes.len().min(at + 1 + dice.below(4));
            match dice.below(5) {
                0 if at < bytes.len() => bytes[at] = signs[dice.below(signs.len())],
                1 => drop(bytes.drain(at..end)),
                2 => bytes.truncate(at),
                3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                _ => bytes.insert(at, signs[dice.below(signs.len())]),
            }
        }
        bytes
    });
    assert_disagreements(&judge(documents.collect()), 70, 30);
}

/// Whether two values are one of the differences in `KNOWN`.
fn known_to_differ(case: &Case) -> bool {
    let text = String::from_utf8_lossy(&case.bytes);
    let Ok(ours) = &case.ours else { return false };
    let block_scalar_of_no_indent = ours.is_string() && text.contains(['|', '>']);
    let bare_tag_on_a_block_scalar = text.contains("! |") || text.contains("! >");
    block_scalar_of_no_indent || bare_tag_on_a_block_scalar || has_equal_numbers_as_keys(ours)
}

fn has_equal_numbers_as_keys(value: &Value) -> bool {
    let number = |key: &str| match key {
        "true" => Some(1.0),
        "false" => Some(0.0),
        other => other.parse::<f64>().ok(),
    };
    match value {
        Value::Object(map) => {
            let mut numbers: Vec<f64> = map.keys().filter_map(|key| number(key)).collect();
            numbers.sort_by(f64::total_cmp);
            numbers.windows(2).any(|pair| pair[0] == pair[1]) || map.values().any(has_equal_numbers_as_keys)
        }
        Value::Array(items) => items.iter().any(has_equal_numbers_as_keys),
        _ => false,
    }
}

/// Never two values; and no more acceptance of bad or refusal of good documents than is known.
fn assert_disagreements(cases: &[Case], lenient: usize, strict: usize) {
    let of = |verdict| cases.iter().filter(|case| case.verdict() == verdict).collect::<Vec<_>>();
    let differ: Vec<&Case> = of(Verdict::Differ).into_iter().filter(|case| !known_to_differ(case)).collect();
    assert!(differ.is_empty(), "{}", report(&differ));
    for (found, most) in [(of(Verdict::Lenient), lenient), (of(Verdict::Strict), strict)] {
        assert!(found.len() <= most, "more than {most}: {}", report(&found));
    }
}
