namespace MatFormer;

/// <summary>A template is not valid, uses something that is not supported, or cannot be rendered with its values.</summary>
/// <param name="problem">What is wrong.</param>
/// <param name="line">The line in the template, from 1 on; 0 if it is not known yet.</param>
/// <param name="isRaised">Whether the template itself refused the values, by <c>raise_exception</c>.</param>
internal sealed class JinjaException(string problem, int line = 0, bool isRaised = false)
    : Exception(line == 0 ? problem : FormattableString.Invariant($"line {line}: {problem}"))
{
    public string Problem => problem;

    public int Line => line;

    public bool IsRaised => isRaised;
}
