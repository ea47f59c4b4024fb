# Records what Hugging Face's own tokenizers (Rust, through its Python binding) make of texts, with files of SentencePiece's kind and with
# tokens that are added around a text. For PieceOracleTests.
#
#   python3 -m pip install tokenizers==0.23.1
#   python3 tests/MatFormer.Runtime.Tests/Tokenizers/Oracle/record.py
#
# Reads text.txt, trained.json and the texts of expected.json beside it; writes llama2.json, mistral.json, gemma.json, metaspace.json,
# tekken.json (small vocabularies in the form of those files) and pieces.json.
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

folder = os.path.dirname(os.path.abspath(__file__))


def at(name):
    return os.path.join(folder, name)


def read(name):
    with open(at(name), encoding='utf-8') as file:
        return json.load(file)


# The pieces that are learnt from the text, in order. The alphabet is small, so that other characters become bytes.
def learn():
    own = Tokenizer(models.BPE(unk_token='<unk>'))
    own.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always', split=True)
    own.train([at('text.txt')], trainers.BpeTrainer(vocab_size=420, limit_alphabet=72, special_tokens=['<unk>'], show_progress=False))
    vocab = json.loads(own.to_str())['model']['vocab']
    pieces = sorted(vocab, key=vocab.get)[1:]
    # Runs of spaces, which models of code have, and characters of two to four bytes.
    return [p for p in pieces if len(p) > 1] + ['▁▁', '▁▁▁▁', '\n\n', 'né'], [p for p in pieces if len(p) == 1] + ['\n', 'é', '日', '👍', 'Я']


# As SentencePiece's files are converted: every way to put a piece together from two, in the order of the pieces.
def assemble(specials, more=()):
    words, letters = learn()
    names = [*specials, *(f'<0x{value:02X}>' for value in range(256)), *words, *letters, *more]
    vocab = {name: index for index, name in enumerate(dict.fromkeys(names))}
    pairs = [(word[:i], word[i:]) for word in words for i in range(1, len(word)) if word[:i] in vocab and word[i:] in vocab]
    return Tokenizer(models.BPE(vocab=vocab, merges=pairs, unk_token='<unk>', fuse_unk=True, byte_fallback=True))


def special(names, normalized=False):
    return [AddedToken(name, special=True, normalized=normalized) for name in names]


def template(tokenizer, single):
    ids = [(name, tokenizer.token_to_id(name)) for name in single.split() if name != '$A']
    return processors.TemplateProcessing(single=single, pair=f'{single} $B:1', special_tokens=ids)


spaces = normalizers.Replace(' ', '▁')
back = [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()]
llama = ['<unk>', '<s>', '</s>']

llama2 = assemble(llama)
llama2.normalizer = normalizers.Sequence([normalizers.Prepend('▁'), spaces])
llama2.add_special_tokens(special(llama))
llama2.post_processor = template(llama2, '<s> $A')
llama2.decoder = decoders.Sequence([*back, decoders.Strip(' ', 1, 0)])

mistral = assemble(llama, ['[INST]', '[/INST]'])
mistral.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='first', split=False)
mistral.add_special_tokens(special([*llama, '[INST]', '[/INST]']))
mistral.post_processor = template(mistral, '<s> $A')
mistral.decoder = decoders.Sequence([*back, decoders.Strip(' ', 1, 0)])

gemma = assemble(['<pad>', '<eos>', '<bos>', '<unk>'], ['\n\n\n', '▁▁▁', '<tool>', '<end_of_turn>'])
gemma.normalizer = spaces
gemma.pre_tokenizer = pre_tokenizers.Split(' ', 'merged_with_previous')
gemma.add_special_tokens(special(['<pad>', '<eos>', '<bos>', '<unk>', '<end_of_turn>']))
gemma.add_tokens([AddedToken(name, normalized=False) for name in ['\n\n\n', '▁▁▁', '<tool>']])
gemma.post_processor = template(gemma, '<bos> $A')
gemma.decoder = decoders.Sequence(back)

# Older conversions: names that are found after normalizing, words cut before each space, and an end that is added too.
metaspace = assemble(llama, ['<tool>', 'éx'])
metaspace.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace('``', '"')])
metaspace.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always', split=True)
metaspace.add_special_tokens(special(llama, normalized=True))
metaspace.add_tokens([AddedToken('<tool>', normalized=False), AddedToken('éx', normalized=True)])
metaspace.post_processor = template(metaspace, '<s> $A </s>')
metaspace.decoder = decoders.Sequence([*back, decoders.Strip(' ', 1, 0)])

trained = read('trained.json')
trained['added_tokens'] = []
trained['model']['vocab'].pop('<|endoftext|>', None)
trained['model']['ignore_merges'] = True
tekken = Tokenizer.from_str(json.dumps(trained))
letters = r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]'
small = r'[\p{Ll}\p{Lm}\p{Lo}\p{M}]'
rest = r'\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+'
tekken.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(f'{letters}*{small}+|{letters}+{small}*|{rest}'), 'isolated'),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
])
tekken.add_special_tokens(special(['<s>', '</s>', '[INST]']))
tekken.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template(tekken, '<s> $A')])
tekken.decoder = decoders.ByteLevel()

texts = read('expected.json')['texts'] + [
    '▁', '▁▁▁', 'a▁b', ' ▁ ', '<s>', '<s>a', ' <s> a', 'a</s>b', 'a </s> b</s>', '<s></s>', '</s><s>x', '<unk>', 'a<unk> b',
    '<bos>x<eos> y', '<pad>',
    '[INST] Hi [/INST] yes', 'x[INST]', '<0x41>', 'a<0x0A>b', '<0xFF', '\n\n\n', 'a\n\n\nb\n\n', '    if x:\n        y\n', '▁▁▁<tool> ▁▁▁',
    '<end_of_turn>\n',
    'e\u0301x', ' e\u0301x y', '``quoted`` `` ', '日本 né é é日', '👍👍🏽', 'Яя', 'ABCdef GHI', 'HTTPServer', 'aB日本CD', '日本ABC', '\u0301ABC',
    'x\u0301ABC',
    ' \u0301', '.\u0301ab', '-\u0301AB', 'ǅ ǅa Aǅb ʰA ʰʰ Aʰ', 'a/b/ /\n//\r\n/', "don't DON'T", '12 345', '\u0301\u0301A',
    '\u0301\u0301Ab', '(ABC)', '(日A)',
]
signs = [*'aZé日07²ǅʰ \n\r\t\u00a0\'./=👍\u0301\u200d▁Яq', '  ', '    ', ' the', 'of', ' model', '<s>', '</s>', '<bos>', '<tool>', '[INST]',
         '<unk>', '\n\n\n', '``', 'e\u0301x']
draw = random.Random(1)
texts += [''.join(draw.choice(signs) for _ in range(draw.randint(1, 14))) for _ in range(200)]

expected = {}
for name, tokenizer in [('llama2', llama2), ('mistral', mistral), ('gemma', gemma), ('metaspace', metaspace), ('tekken', tekken)]:
    tokenizer.save(at(name + '.json'), pretty=False)
    tokenizer = Tokenizer.from_file(at(name + '.json'))
    ids = [tokenizer.encode(text).ids for text in texts]
    names = [tokenizer.decode(tokens, skip_special_tokens=False) for tokens in ids]
    decoded = [tokenizer.decode(tokens) for tokens in ids]
    tokenizer.encode_special_tokens = True
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    pick = {
        'ids': [' '.join(map(str, tokens)) for tokens in ids],
        # Without the special tokens' names; only where the text is another one.
        'decoded': {str(i): its for i, its in enumerate(decoded) if its != texts[i]},
        'names': {str(i): its for i, its in enumerate(names) if its != decoded[i] and i % 4 == 0},
        # As plain text; only where the names of special tokens are in it.
        'plain': {str(i): ' '.join(map(str, its)) for i, its in enumerate(plain)
                  if ' '.join(map(str, its)) not in ' '.join(map(str, ids[i]))},
    }
    expected[name] = pick
with open(at('pieces.json'), 'w', encoding='utf-8') as file:
    json.dump({'texts': texts, 'files': expected}, file, ensure_ascii=False, indent=0)
    file.write('\n')
