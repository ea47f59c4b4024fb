using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace MatFormer;

/// <content>Reads the steps before and after the pairs: normalizers, pre-tokenizers and decoders of pieces, and post-processors.</content>
internal static partial class TokenizerFile
{
    private const string Mark = "\u2581";

    private sealed partial class Reading
    {
        // The steps in which pieces become text. Hugging Face's converter writes these, with Strip where a space is put before texts.
        private static readonly ImmutableArray<string> DecoderTypes = ["Replace", "ByteFallback", "Fuse", "Strip"];

        // Completes what was read with what only pieces have.
        private TokenizerContent OfPieces(JsonElement model, TokenizerContent content)
        {
            Flag(model, "fuse_unk", "model.fuse_unk"); // no character is unknown, because all bytes have tokens
            var (from, to, leadingSpaces) = PieceDecoder();
            var (pattern, spaces) = PiecePattern(content.Normalizer);
            return content with
            {
                Pieces = content.Tokens,
                Tokens = [.. content.Tokens.Select(piece => ByteOf(piece) is { } value ? [value] : new TextStep(
                    TextStepKind.Replace, from, to).Apply(piece).ToArray())],
                Pattern = pattern,
                Spaces = spaces,
                LeadingSpaces = leadingSpaces,
                Unknown = Unknown(model, content.Tokens),
            };
        }

        // Returns the byte whose name a piece is, as Hugging Face's ByteFallback reads it.
        private static byte? ByteOf(byte[] piece) =>
            piece is [(byte)'<', (byte)'0', (byte)'x', _, _, (byte)'>']
            && byte.TryParse(piece.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value)
            ? value : null;

        private int? Unknown(JsonElement model, ImmutableArray<byte[]> pieces)
        {
            if (Get(model, "unk_token") is not { } unknown) return null;
            if (unknown.ValueKind != JsonValueKind.String) throw Wrong("model.unk_token", $"is {Shown(unknown)}, not the name of a token");
            var token = pieces.IndexOf(Encoding.UTF8.GetBytes(unknown.GetString()!), 0, ByteStrings.Comparer);
            return token >= 0 ? token : throw Wrong("model.unk_token", $"is {Shown(unknown)}, which is not in model.vocab");
        }

        private ImmutableArray<TextStep> Normalizer(bool hasPieces)
        {
            if (Get(root, "normalizer") is not { } normalizer) return [];
            if (!hasPieces)
            {
                return IsOf(normalizer, "NFC") ? [Nfc("normalizer")] : throw Unsupported(normalizer, "normalizer", "NFC or none");
            }

            var steps = ImmutableArray.CreateBuilder<TextStep>();
            Add(normalizer, "normalizer");
            return steps.DrainToImmutable();

            void Add(JsonElement element, string field)
            {
                if (IsOf(element, "Sequence"))
                {
                    foreach (var (i, step) in Listed(element, "normalizers", field).Index()) Add(step, $"{field}.normalizers[{i}]");
                }
                else if (IsOf(element, "NFC"))
                {
                    steps.Add(Nfc(field));
                }
                else if (IsOf(element, "Prepend"))
                {
                    steps.Add(new TextStep(TextStepKind.Prepend, [], TextIn(element, "prepend", field)));
                }
                else if (IsOf(element, "Replace"))
                {
                    steps.Add(ReplaceIn(element, field));
                }
                else
                {
                    throw Unsupported(element, field, "NFC, Prepend, Replace, or a Sequence of them");
                }
            }
        }

        private TextStep Nfc(string field)
        {
            // Without ICU, .NET cannot normalize.
            if ("e\u0301".Normalize(NormalizationForm.FormC) != "\u00E9")
                throw Wrong(field, "is NFC, which this program does not support; build it without InvariantGlobalization");
            return TextStep.Nfc;
        }

        private TextStep ReplaceIn(JsonElement element, string field)
        {
            var from = Get(element, "pattern") is { ValueKind: JsonValueKind.Object } pattern && Get(pattern, "String") is { } text
                && text.ValueKind == JsonValueKind.String ? Encoding.UTF8.GetBytes(text.GetString()!) : [];
            if (from.Length == 0) throw Wrong(field + ".pattern", $"is {Shown(Get(element, "pattern"))}, but only a String is supported");
            return new TextStep(TextStepKind.Replace, from, TextIn(element, "content", field));
        }

        private (WordPattern Pattern, SpaceRule? Spaces) PiecePattern(ImmutableArray<TextStep> normalizer)
        {
            const string Field = "pre_tokenizer";
            if (Get(root, Field) is not { } pre) return (WordPattern.Whole, null);
            if (IsOf(pre, "Metaspace"))
            {
                CheckText(pre, "replacement", Field, Mark);
                var scheme = Scheme(pre, Field);
                var cuts = Flag(pre, "split", Field + ".split", otherwise: true);
                return (cuts ? WordPattern.Marks : WordPattern.Whole, new SpaceRule(scheme != "never", scheme == "first"));
            }

            if (!IsOf(pre, "Split")) throw Unsupported(pre, Field, "Metaspace, Split or none");
            if (Get(pre, "pattern") is not { ValueKind: JsonValueKind.Object } pattern || Get(pattern, "String") is not { } text
                || !IsText(text, " "))
                throw Wrong(Field + ".pattern", $"is {Shown(Get(pre, "pattern"))}, but only the String \" \" is supported");
            CheckText(pre, "behavior", Field, "MergedWithPrevious");
            if (Flag(pre, "invert", Field + ".invert")) throw Wrong(Field + ".invert", "is true, which is not supported");

            // Gemma's file cuts words at spaces, but none are left after normalizing.
            return normalizer is [.., var last] && last == TextStep.MarkSpaces ? (WordPattern.Whole, null)
                : throw Wrong(Field, "cuts words at spaces, which is supported only after a normalizer that replaces all spaces");
        }

        // Returns "always", "first" or "never".
        private string Scheme(JsonElement metaspace, string field)
        {
            field += ".prepend_scheme";
            var scheme = Get(metaspace, "prepend_scheme") is not { } given ? "always"
                : given.ValueKind == JsonValueKind.String && given.GetString() is "always" or "first" or "never" ? given.GetString()!
                : throw Wrong(field, $"is {Shown(given)}, but only \"always\", \"first\" and \"never\" are known");

            // Older files have the flag alone.
            if (Flag(metaspace, "add_prefix_space", field.Replace("prepend_scheme", "add_prefix_space", StringComparison.Ordinal), true))
                return scheme;
            return scheme == "never" || Get(metaspace, "prepend_scheme") is null ? "never"
                : throw Wrong(field, $"is \"{scheme}\", but add_prefix_space is false");
        }

        // Returns which text in pieces becomes which, and how many spaces at the beginning of a text are left out.
        private (byte[] From, byte[] To, int LeadingSpaces) PieceDecoder()
        {
            const string Field = "decoder";
            var decoder = Get(root, Field) ?? throw Wrong(Field, "is missing");
            if (IsOf(decoder, "Metaspace"))
            {
                CheckText(decoder, "replacement", Field, Mark);
                return (TextStep.MarkSpaces.To, TextStep.MarkSpaces.From, Scheme(decoder, Field) == "never" ? 0 : 1);
            }

            if (!IsOf(decoder, "Sequence")) throw Unsupported(decoder, Field, "Metaspace or a Sequence");
            var steps = Listed(decoder, "decoders", Field);
            if (steps.Count is < 3 or > 4)
                throw Wrong(Field + ".decoders", $"has {steps.Count} steps, but only {string.Join(", ", DecoderTypes)} are supported");
            for (var i = 0; i < steps.Count; i++)
            {
                if (!IsOf(steps[i], DecoderTypes[i])) throw Unsupported(steps[i], $"{Field}.decoders[{i}]", DecoderTypes[i]);
            }

            var replace = ReplaceIn(steps[0], Field + ".decoders[0]");
            if (steps.Count == 3) return (replace.From, replace.To, 0);
            const string Strip = Field + ".decoders[3]";
            CheckText(steps[3], "content", Strip, " ");
            if (Number(steps[3], "stop", Strip) != 0) throw Wrong(Strip + ".stop", "is not 0, which is not supported");
            return (replace.From, replace.To, Number(steps[3], "start", Strip));
        }

        // Returns the tokens that are added before and after a text.
        private (ImmutableArray<int> Before, ImmutableArray<int> After) Around(int vocabulary)
        {
            var (before, after) = (ImmutableArray<int>.Empty, ImmutableArray<int>.Empty);
            if (Get(root, "post_processor") is { } processor) Add(processor, "post_processor");
            return (before, after);

            void Add(JsonElement element, string field)
            {
                if (IsOf(element, "ByteLevel")) return; // it changes only where tokens lie in the text
                if (before.Length + after.Length > 0) throw Wrong(field, "adds tokens after another one did, which is not supported");
                if (IsOf(element, "Sequence"))
                {
                    foreach (var (i, step) in Listed(element, "processors", field).Index()) Add(step, $"{field}.processors[{i}]");
                }
                else if (IsOf(element, "TemplateProcessing"))
                {
                    AddTemplate(element, field);
                }
                else if (IsOf(element, "RobertaProcessing") || IsOf(element, "BertProcessing"))
                {
                    (before, after) = ([Named(element, "cls", field)], [Named(element, "sep", field)]);
                }
                else
                {
                    throw Unsupported(
                        element, field, "ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing, or a Sequence of them");
                }
            }

            void AddTemplate(JsonElement element, string field)
            {
                var parts = new List<int>[] { [], [] };
                var texts = 0;
                foreach (var (i, piece) in Listed(element, "single", field).Index())
                {
                    var place = $"{field}.single[{i}]";
                    if (texts == 0 && Get(piece, "Sequence") is { } text && Get(text, "id") is { } name && IsText(name, "A")) texts++;
                    else if (Get(piece, "SpecialToken") is { } token) parts[texts].AddRange(Ids(element, token, field, place));
                    else throw Wrong(place, $"is {Shown(piece)}, but only special tokens and one sequence \"A\" are supported");
                }

                if (texts == 0) throw Wrong(field + ".single", "lacks the sequence \"A\"");
                (before, after) = ([.. parts[0]], [.. parts[1]]);
            }

            IEnumerable<int> Ids(JsonElement template, JsonElement token, string field, string place)
            {
                if (Get(token, "id") is not { ValueKind: JsonValueKind.String } id) throw Wrong(place, "lacks the id of the special token");
                var name = id.GetString()!;
                field = $"{field}.special_tokens['{name}']";
                if (Get(template, "special_tokens") is not { } all || Get(all, name) is not { } listed || Get(listed, "ids") is not { } ids)
                    throw Wrong(field, "is missing or has no ids");
                return Items(ids, field + ".ids").Select(its => Token(its, field + ".ids")).ToList();
            }

            // A name and an id.
            int Named(JsonElement element, string name, string field) =>
                Get(element, name) is { ValueKind: JsonValueKind.Array } pair && pair.GetArrayLength() == 2
                ? Token(pair[1], $"{field}.{name}") : throw Wrong($"{field}.{name}", "is not a name and a token id");

            int Token(JsonElement element, string field) =>
                element.ValueKind == JsonValueKind.Number && element.TryGetInt32(out var id) && id >= 0 && id < vocabulary ? id
                : throw Wrong(field, $"has {Shown(element)}, which is not the id of a token");
        }

        private List<JsonElement> Listed(JsonElement element, string name, string field) =>
            [.. Items(Get(element, name) ?? throw Wrong($"{field}.{name}", "is missing"), $"{field}.{name}")];

        private byte[] TextIn(JsonElement element, string name, string field) =>
            Get(element, name) is { ValueKind: JsonValueKind.String } text ? Encoding.UTF8.GetBytes(text.GetString()!)
            : throw Wrong($"{field}.{name}", $"is {Shown(Get(element, name))}, not a text");

        private int Number(JsonElement element, string name, string field) =>
            Get(element, name) is { ValueKind: JsonValueKind.Number } number && number.TryGetInt32(out var value) && value >= 0 ? value
            : throw Wrong($"{field}.{name}", $"is {Shown(Get(element, name))}, not a number of characters");

        private void CheckText(JsonElement element, string name, string field, string only)
        {
            if (Get(element, name) is not { } text || !IsText(text, only))
                throw Wrong($"{field}.{name}", $"is {Shown(Get(element, name))}, but only \"{only}\" is supported");
        }
    }
}
