namespace MatFormer;

/// <summary>The model, weights and tokenizer that the vectors of an index come from.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Fingerprint">The fingerprint of the model's architecture (<see cref="ModelSpec.Fingerprint"/>).</param>
/// <param name="Profile">The profile that embedded the vectors.</param>
/// <param name="Weights">
/// An identifier of the trained weights, such as a hash of the universal weights. It differs between trained models of the same
/// architecture, and is the same for all profiles of one model.
/// </param>
/// <param name="Tokenizer">The fingerprint of the model's tokenizer; null if it has none.</param>
public sealed record VectorIndexIdentity(string Model, string Fingerprint, string Profile, string Weights, string? Tokenizer = null)
{
    /// <summary>Throws unless the embeddings of queries can be compared with these vectors. Any profile of the same model fits.</summary>
    /// <param name="source">The place where these vectors are stored, for the message.</param>
    /// <param name="queries">The identity of the queries' embeddings.</param>
    /// <exception cref="CheckpointException">
    /// The queries' embeddings come from another model, other weights or another tokenizer.
    /// </exception>
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
                    source, $"was embedded with the {name} '{here}', but the queries with '{there}', and embeddings of different models "
                        + "cannot be compared; embed the queries with the model of the index, or write the index again with the model of "
                        + "the queries.");
            }
        }
    }
}
