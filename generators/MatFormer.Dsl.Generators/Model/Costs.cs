namespace MatFormer.Generators.Model;

/// <summary>What a model costs: linear in the sum of its layers' hidden widths.</summary>
internal sealed record Costs(
    long EmbeddingParameters,
    long SharedParameters,
    long ParametersPerHiddenUnit,
    long SharedFlopsPerToken,
    long FlopsPerHiddenUnit,
    long KeyValueCacheBytesPerToken)
{
    public static Costs Of(ModelSpec spec)
    {
        checked
        {
            var block = Weights.OfBlock(spec).ToList();
            var around = Weights.BeforeBlocks(spec).Concat(Weights.AfterBlocks(spec)).ToList();
            var shared = block.Where(w => w.Nesting == Nesting.Whole).ToList();
            var nested = block.Where(w => w.Nesting != Nesting.Whole).ToList();

            // A multiply-add is two FLOPs. The head costs the same whether its weight is the embedding's or its own.
            var head = 2L * spec.Vocabulary * spec.Width;

            // Scores and values, 4 * heads * head width for each key; over a full causal context a token sees (Context + 1) / 2 keys.
            var attention = 2L * spec.Heads * spec.HeadWidth * (spec.Context + 1);
            return new Costs(
                around.Where(w => w.IsEmbedding).Sum(w => w.Elements),
                around.Sum(w => w.Elements) + (spec.Layers * shared.Sum(w => w.Elements)),
                nested.Sum(w => w.Elements),
                head + (spec.Layers * (attention + (2 * shared.Where(w => w.IsMatrix).Sum(w => w.Elements)))),
                2 * nested.Where(w => w.IsMatrix).Sum(w => w.Elements),
                2L * spec.Layers * spec.KeyValueHeads * spec.HeadWidth * sizeof(float));
        }
    }

    public long ParameterCount(IEnumerable<int> widths) => SharedParameters + (ParametersPerHiddenUnit * widths.Sum(w => (long)w));

    public long NonEmbeddingParameterCount(IEnumerable<int> widths) => ParameterCount(widths) - EmbeddingParameters;

    public long FlopsPerToken(IEnumerable<int> widths) => SharedFlopsPerToken + (FlopsPerHiddenUnit * widths.Sum(w => (long)w));
}
