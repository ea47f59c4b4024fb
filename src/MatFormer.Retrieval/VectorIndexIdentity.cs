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
public sealed record VectorIndexIdentity(string Model, string Fingerprint, string Profile, string Weights, string? Tokenizer = null)
{
    /// <summary>Refuses queries whose embeddings lie in another space than these vectors; those of another profile are welcome.</summary>
    /// <param name="source">Where these vectors are kept, for the message.</param>
    /// <param name="queries">Where the queries' embeddings come from.</param>
    /// <exception cref="CheckpointException">They come from another model, other weights or another tokenizer.</exception>
    public void CheckFits(string source, VectorIndexIdentity queries)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(queries);
        foreach (var (name, here, there) in ((string, string?, string?)[])
            [
                ("model", Model, queries.Model), ("architecture", Fingerprint, queries.Fingerprint), ("weights", Weights, queries.Weights),
                ("tokenizer", Tokenizer, queries.Tokenizer),
            ])
        {
            if (here != there)
            {
                throw new CheckpointException(
                    source, $"was embedded with the {name} '{here}', but the queries are with '{there}', and embeddings of different "
                        + "models cannot be compared; embed the queries with the model of the index, or the index again with the "
                        + "queries'.");
            }
        }
    }
}
