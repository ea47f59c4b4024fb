namespace MatFormer;

/// <summary>How a training step treats the granularities; the choices are not interchangeable.</summary>
public enum Objective
{
    /// <summary>One granularity a step, drawn at random (MatFormer, arXiv 2310.07707, section 3.2).</summary>
    Sampled,

    /// <summary>The mean loss of all granularities on the same batch, in one stacked pass.</summary>
    Joint,
}
