namespace MatFormer;

/// <summary>How an encoder turns a sequence into one vector.</summary>
#if MATFORMER_GENERATOR
internal
#else
public
#endif
enum Pooling
{
    /// <summary>The mean of the last hidden states, without padding.</summary>
    Mean,

    /// <summary>The last hidden state of a learned token in front of the sequence (ViT, arXiv 2010.11929, section 3.1).</summary>
    ClassToken,
}
