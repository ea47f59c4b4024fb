using System;

namespace MatFormer;

/// <summary>What the attention of every layer has beyond the number of heads; all granularities share it.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class AttentionAttribute : Attribute
{
    /// <summary>
    /// Heads of the keys and values (grouped-query attention, arXiv 2305.13245); divides the heads. As many as heads if not given.
    /// </summary>
    public int KeyValueHeads { get; set; }

    /// <summary>Width of one head; Width / Heads of the model if not given.</summary>
    public int HeadWidth { get; set; }

    /// <summary>
    /// The base of the rotary angles (RoFormer, arXiv 2104.09864), which learned positions do not use; 10000 if not given.
    /// </summary>
    public double RotaryBase { get; set; } = 10000;

    /// <summary>RMS-normalises each head of queries and keys before they are turned (arXiv 2302.05442); false if not given.</summary>
    public bool QkNorm { get; set; }
}
