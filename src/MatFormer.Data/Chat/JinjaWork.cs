using System.Runtime.CompilerServices;

namespace MatFormer;

/// <summary>
/// Bounds what rendering a template may cost, so that a hostile template can neither hang the program nor exhaust its memory. Each
/// evaluated expression, each element of a list and each character of a text that is made or searched costs something.
/// </summary>
/// <param name="input">The characters of the values that the template gets, with which the bound grows.</param>
internal sealed class JinjaWork(long input)
{
    public const int PerStep = 8;
    public const int PerRound = 32; // of a loop: its variables
    public const int PerCharacter = 4;
    public const int MostCharacters = 1 << 24;
    public const int MostElements = 1 << 20;

    private const long Base = 1 << 26;
    private const long PerInput = 128;
    private const int MostDepth = 400;

    private long _left = Base + (PerInput * input);
    private int _depth;

    /// <summary>Takes units from the budget.</summary>
    /// <exception cref="JinjaException">Nothing is left.</exception>
    public void Spend(long units)
    {
        _left -= units;
        if (units < 0 || _left < 0) throw new JinjaException("the template needs too much work");
    }

    /// <summary>Pays for a text of this length.</summary>
    public void SpendText(long length)
    {
        if (length > MostCharacters) throw new JinjaException($"the template makes a text of more than {MostCharacters} characters");
        Spend(length * PerCharacter);
    }

    /// <summary>Pays for a list of this length.</summary>
    public void SpendList(long count)
    {
        if (count > MostElements) throw new JinjaException($"the template makes a list of more than {MostElements} elements");
        Spend(count * PerStep);
    }

    /// <summary>Pays for searching a text. In the worst case a search compares the whole word at every place.</summary>
    public void SpendSearch(int text, int word) => Spend(text + ((long)text * word / 256));

    /// <summary>Begins something that may contain itself: an expression, a statement, a list that is printed.</summary>
    public void Enter()
    {
        Spend(PerStep);
        if (++_depth > MostDepth || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
            throw new JinjaException("the template nests too deeply");
    }

    public void Leave() => _depth--;
}
