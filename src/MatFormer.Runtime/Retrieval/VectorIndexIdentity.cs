namespace MatFormer;

/// <summary>Where the vectors of an index come from.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Fingerprint">The fingerprint of its architecture (<see cref="ModelSpec.Fingerprint"/>).</param>
/// <param name="Profile">The profile that embedded them.</param>
/// <param name="Weights">
/// What tells the trained model from others of the same architecture, such as a hash of the universal weights: alike for all profiles of
/// one model.
/// </param>
/// <param name="Tokenizer">The fingerprint of its tokenizer; null if it has none.</param>
public sealed record VectorIndexIdentity(string Model, string Fingerprint, string Profile, string Weights, string? Tokenizer = null);
