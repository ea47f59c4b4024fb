using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Unicode;

namespace MatFormer;

/// <summary>Writes the log probabilities of one answer in OpenAI's forms, whole or piece by piece.</summary>
/// <param name="tokenizer">The tokenizer, which knows the bytes of each token.</param>
internal sealed class LogprobsWriter(Tokenizer tokenizer)
{
    // The API's number for a token that is too unlikely to tell its probability. JSON has no minus infinity.
    private const double Unlikely = -9999;

    private readonly TokenStream _text = new(tokenizer, continues: true);
    private int _length; // of the text so far, in Unicode code points

    public ChatLogprobs Chat(IEnumerable<TokenLogProbability> logs) => new(
    [
        .. logs.Select(log => Entry(log.Token, log.LogProbability, [.. log.Top.Select(t => Entry(t.Token, t.LogProbability, null))])),
    ]);

    public TextLogprobs Text(IReadOnlyCollection<TokenLogProbability> logs)
    {
        var tops = ImmutableArray.CreateBuilder<Dictionary<string, double>>(logs.Count);
        var offsets = ImmutableArray.CreateBuilder<int>(logs.Count);
        foreach (var log in logs)
        {
            // The chosen token is always among them. Of several tokens with the same text, the likeliest is written.
            var top = new Dictionary<string, double>(StringComparer.Ordinal);
            foreach (var (token, value) in log.Top.Append((log.Token, log.LogProbability))) top.TryAdd(TextOf(token), Finite(value));
            tops.Add(top);
            offsets.Add(_length);
            _length += _text.Add(log.Token).EnumerateRunes().Count();
        }

        return new TextLogprobs(
            [.. logs.Select(log => TextOf(log.Token))], [.. logs.Select(log => Finite(log.LogProbability))], tops.MoveToImmutable(),
            offsets.MoveToImmutable());

        string TextOf(int token) => NameOf(tokenizer.BytesOf(token), "bytes:");
    }

    private ChatLogprob Entry(int token, double value, ImmutableArray<ChatLogprob>? top)
    {
        var bytes = tokenizer.BytesOf(token);
        return new ChatLogprob(NameOf(bytes, string.Empty), Finite(value), [.. bytes.ToArray().Select(b => (int)b)], top);
    }

    // The text of a token, or its bytes as \xNN if they are not whole characters.
    private static string NameOf(ReadOnlySpan<byte> bytes, string mark)
    {
        if (Utf8.IsValid(bytes)) return Encoding.UTF8.GetString(bytes);
        var name = new StringBuilder(mark);
        foreach (var value in bytes) name.Append(CultureInfo.InvariantCulture, $"\\x{value:x2}");
        return name.ToString();
    }

    private static double Finite(double value) => Math.Max(Unlikely, value);
}
