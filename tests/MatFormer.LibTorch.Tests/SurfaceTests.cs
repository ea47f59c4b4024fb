using System.Globalization;
using System.Reflection;
using System.Text;

namespace MatFormer.LibTorch.Tests;

/// <summary>Holds the public surface of our assembly against the list of TorchSharp 0.107.0's (torchsharp-0.107.0-api.txt).</summary>
public class SurfaceTests
{
    private const BindingFlags Declared =
        BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    private static readonly Dictionary<Type, string> Keywords = new()
    {
        [typeof(bool)] = "bool",
        [typeof(byte)] = "byte",
        [typeof(sbyte)] = "sbyte",
        [typeof(short)] = "short",
        [typeof(int)] = "int",
        [typeof(long)] = "long",
        [typeof(ulong)] = "ulong",
        [typeof(float)] = "float",
        [typeof(double)] = "double",
        [typeof(nint)] = "nint",
        [typeof(string)] = "string",
        [typeof(object)] = "object",
        [typeof(void)] = "void",
    };

    [Fact]
    public void EveryPublicMemberIsTorchSharps()
    {
        var theirs = ReadList(Path.Combine(AppContext.BaseDirectory, "torchsharp-0.107.0-api.txt"));
        var lacking = new List<string>();
        var checkedMembers = 0;
        foreach (var type in typeof(TorchSharp.torch).Assembly.GetTypes().Where(static t => IsVisible(t)))
        {
            if (type.Namespace == "MatFormer.Torch")
            {
                continue;
            }

            var header = Header(type);
            if (!theirs.TryGetValue(header, out var members))
            {
                lacking.Add(header);
                continue;
            }

            foreach (var member in Members(type))
            {
                checkedMembers++;
                if (!members.Contains(member))
                {
                    lacking.Add($"{TypeName(type)}: {member}");
                }
            }
        }

        Assert.True(lacking.Count == 0, "TorchSharp 0.107.0 has no\n  " + string.Join("\n  ", lacking));
        Assert.True(checkedMembers > 600, $"Only {checkedMembers} members were compared: the test looks at the wrong thing.");
    }

    /// <summary>The printer is held against signatures that we know, so that a printer which prints nothing cannot pass.</summary>
    [Fact]
    public void ThePrinterPrintsInTheListsFormat()
    {
        Assert.Equal("class Modules.Parameter : torch.Tensor", Header(typeof(TorchSharp.Modules.Parameter)));
        Assert.Equal(
            "abstract class torch.nn.Module<T, TResult> : torch.nn.HookableModule<Func<torch.nn.Module<T, TResult>, T, T>, "
            + "Func<torch.nn.Module<T, TResult>, T, TResult, TResult>>",
            Header(typeof(TorchSharp.torch.nn.Module<,>)));
        var tensor = Members(typeof(TorchSharp.torch.Tensor)).ToList();
        Assert.Contains("torch.Tensor add_(torch.Tensor target, Scalar alpha)", tensor);
        Assert.Contains("torch.Tensor sum(long[] dim, bool keepdim = false, torch.ScalarType? type = null)", tensor);
        Assert.Contains("torch.Tensor div(Scalar target, torch.RoundingMode rounding_mode = 0)", tensor);
        Assert.Contains("(torch.Tensor, torch.Tensor) max(long dim, bool keepdim = false)", tensor);
        Assert.Contains("bool requires_grad { get; set; }", tensor);
        Assert.Contains("virtual bool Equals(object obj)", tensor);
        Assert.Contains("torch.Tensor this[params torch.TensorIndex[] indices] { get; set; }", tensor);
    }

    private static Dictionary<string, HashSet<string>> ReadList(string path)
    {
        var types = new Dictionary<string, HashSet<string>>();
        HashSet<string>? current = null;
        foreach (var line in File.ReadLines(path))
        {
            if (line.StartsWith("  ", StringComparison.Ordinal))
            {
                current!.Add(line.Trim());
            }
            else if (line.Length > 0)
            {
                current = types[line.Trim()] = [];
            }
        }

        return types;
    }

    private static string Header(Type type)
    {
        var kind = type.IsEnum ? "enum"
            : type.IsInterface ? "interface"
            : type.IsValueType ? "struct"
            : type is { IsAbstract: true, IsSealed: true } ? "static class"
            : type.IsAbstract ? "abstract class" : "class";
        var based = type.IsClass && type.BaseType is { } parent && parent != typeof(object) ? " : " + TypeName(parent) : "";
        return $"{kind} {TypeName(type)}{based}";
    }

    private static IEnumerable<string> Members(Type type)
    {
        if (type.IsEnum)
        {
            return Enum.GetNames(type).Select(name => $"static {TypeName(type)} {name}");
        }

        return type.GetMembers(Declared).Select(Member).OfType<string>();
    }

    private static string? Member(MemberInfo member) => member switch
    {
        ConstructorInfo { IsStatic: false } c when IsVisible(c) => $"{Protected(c)}ctor({Parameters(c.GetParameters())})",
        MethodInfo m when IsVisible(m) && !IsAccessor(m) => Method(m),
        PropertyInfo p when Visible(p.GetMethod) || Visible(p.SetMethod) => Property(p),
        FieldInfo f when f.IsPublic || f.IsFamily || f.IsFamilyOrAssembly =>
            $"{(f.IsStatic ? "static " : "")}{TypeName(f.FieldType)} {f.Name}",
        EventInfo e when Visible(e.AddMethod) => $"event {e.Name}",
        _ => null,
    };

    private static string Method(MethodInfo m)
    {
        var modifier = m.IsStatic ? "static " : m.IsAbstract ? "abstract " : m is { IsVirtual: true, IsFinal: false } ? "virtual " : "";
        var generic = m.IsGenericMethodDefinition
            ? $"<{string.Join(", ", m.GetGenericArguments().Select(static t => t.Name))}>"
            : "";
        return $"{Protected(m)}{modifier}{TypeName(m.ReturnType)} {m.Name}{generic}({Parameters(m.GetParameters())})";
    }

    private static string Property(PropertyInfo p)
    {
        var accessors = (Visible(p.GetMethod) ? "get; " : "") + (Visible(p.SetMethod) ? "set; " : "");
        var some = (p.GetMethod ?? p.SetMethod)!;
        var indices = p.GetIndexParameters();
        var name = indices.Length > 0 ? $"this[{Parameters(indices)}]" : p.Name;
        return $"{(some.IsStatic ? "static " : "")}{TypeName(p.PropertyType)} {name} {{ {accessors}}}";
    }

    private static string Parameters(ParameterInfo[] parameters) => string.Join(", ", parameters.Select(static p =>
    {
        var text = new StringBuilder();
        if (p.IsDefined(typeof(ParamArrayAttribute)))
        {
            text.Append("params ");
        }

        text.Append(p.ParameterType.IsByRef ? (p.IsOut ? "out " : "ref ") : "");
        text.Append(TypeName(p.ParameterType)).Append(' ').Append(p.Name);
        if (p.HasDefaultValue)
        {
            text.Append(" = ").Append(Default(p));
        }

        return text.ToString();
    }));

    private static string Default(ParameterInfo p) => p.RawDefaultValue switch
    {
        null => "null",
        bool b => b ? "true" : "false",
        string s => $"\"{s}\"",
        IFormattable f => f.ToString(null, CultureInfo.InvariantCulture),
        var other => other.ToString()!,
    };

    private static string TypeName(Type type)
    {
        if (type.IsByRef)
        {
            return TypeName(type.GetElementType()!);
        }

        if (type.IsArray)
        {
            return TypeName(type.GetElementType()!) + "[]";
        }

        if (Keywords.TryGetValue(type, out var keyword))
        {
            return keyword;
        }

        if (type.IsGenericParameter)
        {
            return type.Name;
        }

        if (Nullable.GetUnderlyingType(type) is { } value)
        {
            return TypeName(value) + "?";
        }

        var arguments = type.GetGenericArguments();
        if (type.FullName?.StartsWith("System.ValueTuple`", StringComparison.Ordinal) == true
            || (type.Namespace == "System" && type.Name.StartsWith("ValueTuple`", StringComparison.Ordinal)))
        {
            return $"({string.Join(", ", arguments.Select(TypeName))})";
        }

        var name = Bare(type);
        for (var outer = type.DeclaringType; outer is not null; outer = outer.DeclaringType)
        {
            name = $"{Bare(outer)}.{name}";
        }

        var space = type.Namespace ?? "";
        foreach (var prefix in new[] { "TorchSharp", "System.Collections.Generic", "System" })
        {
            if (space == prefix || space.StartsWith(prefix + ".", StringComparison.Ordinal))
            {
                space = space[prefix.Length..].TrimStart('.');
                break;
            }
        }

        return (space.Length > 0 ? space + "." : "") + name
            + (arguments.Length > 0 ? $"<{string.Join(", ", arguments.Select(TypeName))}>" : "");
    }

    private static string Bare(Type type)
    {
        var tick = type.Name.IndexOf('`', StringComparison.Ordinal);
        return tick < 0 ? type.Name : type.Name[..tick];
    }

    private static bool IsVisible(Type type) => type.IsNested
        ? (type.IsNestedPublic || type.IsNestedFamily || type.IsNestedFamORAssem) && IsVisible(type.DeclaringType!)
        : type.IsPublic;

    private static bool IsVisible(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    private static bool Visible(MethodBase? method) => method is not null && IsVisible(method);

    private static bool IsAccessor(MethodInfo m) => m.IsSpecialName && !m.Name.StartsWith("op_", StringComparison.Ordinal);

    private static string Protected(MethodBase method) => method.IsPublic ? "" : "protected ";
}
