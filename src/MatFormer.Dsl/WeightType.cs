namespace MatFormer;

/// <summary>What weights are stored in.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum WeightType
{
    /// <summary>Four bytes each.</summary>
    Float32,

    /// <summary>Two bytes each, eight bits of exponent.</summary>
    BFloat16,

    /// <summary>Two bytes each, five bits of exponent.</summary>
    Float16,

    /// <summary>One byte each in matrices, whose rows have a float32 scale; all else in float32.</summary>
    Int8,
}
