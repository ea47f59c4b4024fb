using System.Collections.Frozen;
using System.Collections.Immutable;

namespace MatFormer;

// The values of a template are null (None), bool, long, double, string, List<object?>, and the following.

/// <summary>What a name without a value stands for. It prints as nothing, counts as false, and most operations refuse it.</summary>
/// <param name="problem">Why there is no value.</param>
internal sealed class JinjaUndefined(string problem)
{
    public string Problem => problem;
}

/// <summary>A list that cannot be changed; it prints in parentheses.</summary>
internal sealed class JinjaTuple(List<object?> items)
{
    public List<object?> Items => items;
}

/// <summary>A dict, in the order in which its entries were added.</summary>
internal sealed class JinjaDict() : OrderedDictionary<object, object?>(KeyComparer.Instance)
{
    // In Python, 1, 1.0 and True are the same key.
    private sealed class KeyComparer : IEqualityComparer<object>
    {
        public static KeyComparer Instance { get; } = new();

        public new bool Equals(object? x, object? y) => JinjaValues.KeysAreEqual(x, y);

        public int GetHashCode(object obj) => JinjaValues.NumberOf(obj) is { } number ? number.GetHashCode() : obj.GetHashCode();
    }
}

/// <summary>An object whose attributes can be set also within a loop.</summary>
internal sealed class JinjaNamespace
{
    public Dictionary<string, object?> Attributes { get; } = new(StringComparer.Ordinal);
}

/// <summary>A function as a value, which templates only test for.</summary>
internal sealed record JinjaFunction(string Name);

/// <summary>A macro, with the variables around it.</summary>
internal sealed record JinjaMacroValue(JinjaMacro Macro, JinjaScope Scope);

/// <summary>The variables of a part of a template. Inner ones hide outer ones.</summary>
internal sealed class JinjaScope(JinjaScope? outer)
{
    private readonly Dictionary<string, object?> _variables = new(StringComparer.Ordinal);

    public void Set(string name, object? value) => _variables[name] = value;

    public bool TryGet(string name, out object? value)
    {
        for (var scope = this; scope is not null; scope = scope.Outer)
        {
            if (scope._variables.TryGetValue(name, out value)) return true;
        }

        value = null;
        return false;
    }

    private JinjaScope? Outer => outer;
}

/// <summary>The variable <c>loop</c>.</summary>
internal sealed class JinjaLoop(List<object?> items)
{
    public static FrozenSet<string> Names { get; } = FrozenSet.ToFrozenSet(
        ["index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "depth", "depth0"],
        StringComparer.Ordinal);

    public int At { get; set; }

    public object? Get(string name) => name switch
    {
        "index" => At + 1L,
        "index0" => (long)At,
        "revindex" => (long)items.Count - At,
        "revindex0" => items.Count - At - 1L,
        "first" => At == 0,
        "last" => At == items.Count - 1,
        "length" => (long)items.Count,
        "previtem" => At > 0 ? items[At - 1] : new JinjaUndefined("there is no previous item"),
        "nextitem" => At + 1 < items.Count ? items[At + 1] : new JinjaUndefined("there is no next item"),
        "depth" => 1L,
        "depth0" => 0L,
        _ => new JinjaUndefined($"loop has no attribute '{name}'"),
    };
}

/// <summary>The parameters of a function, method or filter that is built in.</summary>
/// <param name="Names">The names.</param>
/// <param name="Least">How many of them must be given.</param>
/// <param name="IsOpen">Whether any further arguments may be given.</param>
internal sealed record JinjaSignature(ImmutableArray<string> Names, int Least = 0, bool IsOpen = false)
{
    /// <summary>Stands for an argument that is not given.</summary>
    public static object Missing { get; } = new();

    public void Check(string kind, string name, JinjaArguments arguments, int line)
    {
        if (IsOpen) return;
        var unknown = arguments.Named.FirstOrDefault(n => !Names.Contains(n.Name)).Name;
        if (unknown is not null) throw new JinjaException($"the argument '{unknown}' of the {kind} '{name}' is not supported", line);
        var given = arguments.Positional.Length;
        if (given > Names.Length) throw new JinjaException($"the {kind} '{name}' has more than {Names.Length} arguments", line);
        for (var i = 0; i < Names.Length; i++)
        {
            var isNamed = arguments.Named.Any(n => n.Name == Names[i]);
            if (isNamed && i < given) throw new JinjaException($"the {kind} '{name}' has the argument '{Names[i]}' twice", line);
            if (!isNamed && i >= given && i < Least) throw new JinjaException($"the {kind} '{name}' lacks the argument '{Names[i]}'", line);
        }
    }

    /// <summary>Returns an argument for each parameter.</summary>
    public object?[] Bind(object?[] positional, ImmutableArray<(string Name, object? Value)> named)
    {
        if (IsOpen) return positional;
        var all = new object?[Names.Length];
        Array.Fill(all, Missing);
        positional.CopyTo(all, 0);
        foreach (var (name, value) in named) all[Names.IndexOf(name)] = value;
        return all;
    }
}
