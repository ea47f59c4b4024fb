using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>Writes the metrics of a server in Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats).</summary>
internal sealed class MetricsText
{
    private readonly StringBuilder _text = new();

    public static string Of(ModelServer server)
    {
        var text = new MetricsText();
        if (server is LanguageModelServer languageModel) text.Add(languageModel);
        else text.Add((EncoderServer)server);
        text.Family(
            "profile_requests_total", "counter", "Requests by profile.",
            [.. server.Requests.Select(p => ($"{{profile=\"{Escaped(p.Key)}\"}}", (double)p.Value))]);
        text.Family(
            "http_responses_total", "counter", "HTTP responses by status.",
            [.. server.Answers.Select(p => ($"{{code=\"{Number(p.Key)}\"}}", (double)p.Value))]);
        return text._text.ToString();
    }

    private void Add(EncoderServer server)
    {
        var s = server.Statistics;
        Requests(s.Running, s.Waiting, s.Completed, s.Cancelled, s.Failed, s.Refused);
        var unit = server.Spec.Unit;
        Family($"{unit}s_total", "counter", $"{char.ToUpperInvariant(unit[0])}{unit[1..]}s that were embedded.", (string.Empty, s.Inputs));
        Family("prompt_tokens_total", "counter", $"Tokens of these {unit}s.", (string.Empty, s.Tokens));
        Family("pass_seconds_total", "counter", "Seconds spent in passes.", (string.Empty, s.ComputingSeconds));
    }

    private void Add(LanguageModelServer server)
    {
        var s = server.Scheduler.Statistics;
        Requests(s.Running, s.Waiting, s.Completed, s.Cancelled, s.Failed, s.Refused);
        Family("sequences", "gauge", "The most requests that can run at once.", (string.Empty, server.Scheduler.Sequences));
        Family("prompt_tokens_total", "counter", "Prompt tokens that were computed.", (string.Empty, s.PromptTokens));
        Family("cached_tokens_total", "counter", "Prompt tokens reused from the key/value cache.", (string.Empty, s.CachedTokens));
        Family("generated_tokens_total", "counter", "Tokens generated.", (string.Empty, s.GeneratedTokens));
        Family("drafted_tokens_total", "counter", "Tokens that drafts proposed.", (string.Empty, s.DraftedTokens));
        Family("accepted_tokens_total", "counter", "Drafted tokens that the model chose too.", (string.Empty, s.AcceptedTokens));
        Family("escalated_tokens_total", "counter", "Tokens that a cascade computed again.", (string.Empty, s.EscalatedTokens));
        Family("passes_total", "counter", "Passes through the model, including those of drafts.", (string.Empty, s.Passes));
        Family("pass_seconds_total", "counter", "Seconds spent in passes.", (string.Empty, s.PassSeconds));
        var below = 0L;
        var buckets = new List<(string Labels, double Value)>();
        for (var i = 0; i < s.FirstTokens.Length; i++)
        {
            below += s.FirstTokens[i];
            var bound = i < SchedulerStatistics.FirstTokenBounds.Length ? Number(SchedulerStatistics.FirstTokenBounds[i]) : "+Inf";
            buckets.Add(($"_bucket{{le=\"{bound}\"}}", below));
        }

        Family(
            "first_token_seconds", "histogram", "Seconds from a request to its first token.",
            [.. buckets, ("_sum", s.FirstTokenSeconds), ("_count", below)]);
        Family("weight_bytes", "gauge", "Bytes of the packed weights.", (string.Empty, server.WeightBytes));
        Family("cache_bytes", "gauge", "Bytes of the key/value caches of all sequences.", (string.Empty, server.CacheBytes));
    }

    private void Requests(int running, int waiting, long completed, long cancelled, long failed, long refused)
    {
        Family("requests_running", "gauge", "Requests that are running.", (string.Empty, running));
        Family("requests_waiting", "gauge", "Requests that are waiting for their turn.", (string.Empty, waiting));
        Family(
            "requests_total", "counter", "Requests by outcome.", ("{outcome=\"completed\"}", completed),
            ("{outcome=\"cancelled\"}", cancelled), ("{outcome=\"failed\"}", failed), ("{outcome=\"refused\"}", refused));
    }

    private void Family(string name, string type, string help, params IEnumerable<(string Labels, double Value)> samples)
    {
        _text.Append(CultureInfo.InvariantCulture, $"# HELP matformer_{name} {help}\n# TYPE matformer_{name} {type}\n");
        foreach (var (labels, value) in samples)
            _text.Append(CultureInfo.InvariantCulture, $"matformer_{name}{labels} {Number(value)}\n");
    }

    private static string Number(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private static string Escaped(string label) => label.Replace("\\", "\\\\").Replace("\"", "\\\"").Replace("\n", "\\n");
}
