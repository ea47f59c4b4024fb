using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Operations;

namespace MatFormer.Generators.Analyzers;

/// <summary>What the analyzers of a program's code recognize in it.</summary>
internal static class Operations
{
    /// <summary>True for a generated model, or a type parameter that stands for one.</summary>
    public static bool IsModel(ITypeSymbol? type)
    {
        if (type is ITypeParameterSymbol parameter) return parameter.ConstraintTypes.Any(IsModel);
        if (type?.TypeKind == TypeKind.Interface) return IsOurs(type, "IMatFormer");
        for (; type is not null; type = type.BaseType)
        {
            if (IsOurs(type, "MatFormerModel")) return true;
        }

        return false;
    }

    /// <summary>True for a type of the runtime's.</summary>
    public static bool IsOurs(ITypeSymbol? type, string name) =>
        type?.Name == name && type.ContainingNamespace is { Name: nameof(MatFormer), ContainingNamespace.IsGlobalNamespace: true };

    public static bool IsTensor(ITypeSymbol? type) => type?.Name == "Tensor" && type.ToDisplayString() == "TorchSharp.torch.Tensor";

    /// <summary>True for torch's optimizers.</summary>
    public static bool IsOptimizer(ITypeSymbol? type)
    {
        for (; type is not null; type = type.BaseType)
        {
            if (type.Name == "Optimizer" && type.ToDisplayString().StartsWith("TorchSharp.", StringComparison.Ordinal)) return true;
        }

        return false;
    }

    /// <summary>What a method is called on; also for an extension method.</summary>
    public static IOperation? Receiver(this IInvocationOperation call)
    {
        var receiver = call.Instance
            ?? (call.TargetMethod.IsExtensionMethod ? call.Arguments.FirstOrDefault(a => a.Parameter?.Ordinal == 0)?.Value : null);
        return receiver?.Bare();
    }

    /// <summary>An operation without conversions around it.</summary>
    public static IOperation Bare(this IOperation operation)
    {
        while (operation is IConversionOperation conversion) operation = conversion.Operand;
        return operation;
    }

    /// <summary>The operation that takes this one's value, conversions and parentheses aside.</summary>
    public static IOperation? User(this IOperation operation)
    {
        var user = operation.Parent;
        while (user is IConversionOperation or IParenthesizedOperation) user = user.Parent;
        return user;
    }

    /// <summary>The local variable or parameter that an expression names, or null.</summary>
    public static ISymbol? Variable(this IOperation? operation) => operation?.Bare() switch
    {
        ILocalReferenceOperation local => local.Local,
        IParameterReferenceOperation parameter => parameter.Parameter,
        _ => null,
    };

    /// <summary>The body of the method, lambda or local function that an operation is in.</summary>
    public static IOperation Function(this IOperation operation)
    {
        while (operation is not (IAnonymousFunctionOperation or ILocalFunctionOperation) && operation.Parent is { } parent)
            operation = parent;
        return operation;
    }

    /// <summary>The whole member that an operation is in.</summary>
    public static IOperation Root(this IOperation operation)
    {
        while (operation.Parent is { } parent) operation = parent;
        return operation;
    }

    /// <summary>True if a variable gets another value than its first.</summary>
    public static bool IsAssigned(ISymbol variable, IOperation within) => within.Descendants().Any(operation => operation switch
    {
        IAssignmentOperation assignment => SymbolEqualityComparer.Default.Equals(assignment.Target.Variable(), variable),
        IArgumentOperation { Parameter.RefKind: RefKind.Ref or RefKind.Out } argument =>
            SymbolEqualityComparer.Default.Equals(argument.Value.Variable(), variable),
        _ => false,
    });
}
