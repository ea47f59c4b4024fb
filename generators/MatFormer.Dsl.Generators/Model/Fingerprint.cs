using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using static System.FormattableString;

namespace MatFormer.Generators.Model;

/// <summary>A hash of the architecture: the same for models whose weights fit each other.</summary>
internal static class Fingerprint
{
    /// <summary>The first 16 hexadecimal digits of the SHA-256 of <see cref="Canonical"/>.</summary>
    public static string Of(ModelSpec spec)
    {
        using var sha = SHA256.Create();
        var hash = sha.ComputeHash(Encoding.UTF8.GetBytes(Canonical(spec)));
        return string.Concat(hash.Take(8).Select(b => b.ToString("x2", CultureInfo.InvariantCulture)));
    }

    /// <summary>
    /// The architecture as text; neither the class's name nor the profiles are in it. Weight files depend on it: never change what is
    /// there.
    /// </summary>
    public static string Canonical(ModelSpec spec)
    {
        var granularities = string.Join(",", spec.Granularities.Select(g => Invariant($"{g.Name}:{g.Width}")));
        return string.Join(
            ";",
            "MatLM/1",
            Invariant($"layers={spec.Layers}"),
            Invariant($"width={spec.Width}"),
            Invariant($"heads={spec.Heads}"),
            Invariant($"key_value_heads={spec.KeyValueHeads}"),
            Invariant($"head_width={spec.HeadWidth}"),
            Invariant($"context={spec.Context}"),
            Invariant($"vocabulary={spec.Vocabulary}"),
            Invariant($"hidden={spec.HiddenWidth}"),
            Invariant($"activation={spec.Activation}"),
            Invariant($"bias={spec.Bias}"),
            Invariant($"norm={spec.Norm}({spec.Epsilon:R})"),
            spec.Rotary ? Invariant($"position=Rotary({spec.RotaryBase:R})") : "position=Learned",
            Invariant($"qk_norm={spec.QkNorm}"),
            Invariant($"tied={spec.Tied}"),
            Invariant($"granularities={granularities}"));
    }
}
