namespace MatFormer;

/// <summary>The number formats that weights are stored in.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum WeightType
{
    /// <summary>Four bytes per weight.</summary>
    Float32,

    /// <summary>Two bytes per weight, with eight bits of exponent.</summary>
    BFloat16,

    /// <summary>Two bytes per weight, with five bits of exponent.</summary>
    Float16,

    /// <summary>One byte per weight in matrices, with a float32 scale for each row. All other weights are float32.</summary>
    Int8,
}
