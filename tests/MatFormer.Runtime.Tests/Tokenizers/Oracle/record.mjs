// Records what Hugging Face's own tokenizers (Rust, through its Node binding) make of texts, for TokenizerOracleTests.
//
//   UPDATE_BASELINES=1 dotnet test tests/MatFormer.Runtime.Tests --filter TokenizerOracle   # writes trained.json and bytes.json
//   npm install --prefix "$HOME/oracle" --ignore-scripts tokenizers@0.23.2
//   NODE_PATH="$HOME/oracle/node_modules" node tests/MatFormer.Runtime.Tests/Tokenizers/Oracle/record.mjs
//
// Reads text.txt, trained.json and bytes.json beside it (the latter two written by our tests, loaded here: they must be sound); writes
// llama3.json, qwen2.json (the pairs of trained.json in the form of those files) and expected.json.
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const { Tokenizer, BPE, byteLevelPreTokenizer } = createRequire(import.meta.url)('tokenizers')
const at = name => fileURLToPath(new URL(name, import.meta.url))
const read = name => JSON.parse(readFileSync(at(name), 'utf8'))
const write = (name, value) => writeFileSync(at(name), JSON.stringify(value, null, 1) + '\n')

const llama3 = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
const trained = read('trained.json')

// Files of other families: words cut by a regular expression, merges in both forms, tokens added after the vocabulary; and a word that no
// pairs lead to, which is found only where words come first.
const word = 'Ġunmergeable'
const vocab = { ...trained.model.vocab, [word]: Object.keys(trained.model.vocab).length }
const family = (regex, normalizer, added, model) => ({
  ...trained,
  added_tokens: added.map((content, i) => ({
    id: Object.keys(vocab).length + i, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: content !== '<tool>',
  })),
  normalizer,
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false },
      { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
  },
  model: { ...trained.model, vocab, ...model },
})
write('llama3.json', family(
  llama3, null, ['<|begin_of_text|>', '<|end_of_text|>', '<tool>'], { ignore_merges: true, merges: trained.model.merges.map(pair => pair.join(' ')) }))
write('qwen2.json', family(llama3.replace('{1,3}', ''), { type: 'NFC' }, ['<|endoftext|>', '<|im_start|>', '<tool>'], {}))

const texts = [
  '', ' ', 'a', 'The model returns a nested width.', 'an unmergeable word', "It's, we're; I'll, they'd, I've, I'm, can't 'tis 's", "IT'S WE'RE I'LL 'S 'LL 'Ve 'ſ '",
  'é e\u0301 Å \u212B ﬁ ñ n\u0303 가 \u1100\u1161 ẛ̣', 'Ελληνικά Кириллица עברית العربية हिन्दी ไทย', '日本語のテキスト、漢字。 中文！', '👩‍👩‍👧‍👦 👍🏽 🇫🇮 ☃️ 🤖🤖',
  '𝒜𝓑𝒞 𝟙𝟚𝟛 𠀀𠀁 𐍈 \u{1F9FF}', 'Ⅻ ² ½ ٣٤٥ १२३ 1234567 3.14159 1e-9 0x1F 12 345 6', 'a  b   c    d', '   three before', 'three after   ', '\ttab\t\ttabs\t x',
  'line\nline\n\nline\n\n\nline', 'line\r\nline\r\n\r\n  indented\r\n', '\n\n  \n x \n', ' \n', '\n ', '  \n\n  ', 'x\u00A0y \u00A0 z\u3000w\u2003v', 'a\u0085b\u2028c\u2029d',
  'zero\u200Bwidth\uFEFFmark\u00ADhyphen', 'public static int Main(string[] args) => args.Length > 0 ? 1 : 0; // ok?', 'if (x == null) {\n    return y[0] + "\\n";\n}\n',
  'a/b\\c|d~e`f^g@h#i$j%k&l*m(n)o-p_q=r+s[t]u{v}w;x:y,z.', '='.repeat(100), 'na'.repeat(60), '....!!!???---', 'http://example.org/a?b=c&d=e#f', 'user@example.org',
  '<|endoftext|>', 'a<|endoftext|>b <|endoftext|>', '<|end_of_text|> x<|begin_of_text|>', '<|im_start|>user\nhi<tool>go', '<|endoftext', '\u0000\u0001\u007F', '\uE000\uF8FF\u{10FFFF}\uFFFF',
  'İstanbul ıI ß ẞ ŉ ǆ ﷺ', 'क्षि ഷ്ണ ཀྵ', "don't''t '' 'r 're're", '"quoted" ‘single’ “double” «guillemets»', 'MixedCASE camelCase snake_case kebab-case', 'e\u0301\u0301\u0327 x\u0327\u0301',
]

// And texts of signs that matter to how words are cut, in any order.
const signs = [..."aZé日𝒜07²٣ \n\r\t\u00A0\u3000'.-=\"stdmrevl👍\u0301\u200D", "'s", "'ll", '\r\n', '  ', ' \n', 'the', ' model', '<tool>']
let state = 1
const next = n => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return Math.floor(state / 2 ** 32 * n) }
for (let i = 0; i < 250; i++) texts.push(Array.from({ length: 1 + next(16) }, () => signs[next(signs.length)]).join(''))

const files = {}
for (const name of ['trained', 'bytes', 'llama3', 'qwen2']) {
  const tokenizer = Tokenizer.fromFile(at(name + '.json'))
  files[name] = []
  for (const text of texts) {
    const ids = (await tokenizer.encode(text, null, { addSpecialTokens: false })).getIds()
    files[name].push(ids)
  }
}

// Trained by Hugging Face on the same text, as far as it goes.
const own = new Tokenizer(BPE.empty())
own.setPreTokenizer(byteLevelPreTokenizer(false))
own.train([at('text.txt')])
const saved = join(mkdtempSync(join(tmpdir(), 'oracle-')), 'tokenizer.json')
own.save(saved)
const learnt = JSON.parse(readFileSync(saved, 'utf8')).model.merges.map(pair => Array.isArray(pair) ? pair.join(' ') : pair)
write('expected.json', {
  merges: { count: learnt.length, sha256: createHash('sha256').update(learnt.join('\n')).digest('hex'), first: learnt.slice(0, 20) },
  texts,
  files: Object.fromEntries(Object.entries(files).map(([name, ids]) => [name, ids.map(list => list.join(' '))])),
})
