using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Operations;

namespace MatFormer.Generators.Analyzers;

/// <summary>Recognizes models, tensors and optimizers in the code of a program.</summary>
internal static class Operations
{
    /// <summary>Returns true for a generated model, and for a type parameter that stands for a model.</summary>
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

    /// <summary>Returns true if a type is the type of the MatFormer libraries with this name.</summary>
    public static bool IsOurs(ITypeSymbol? type, string name) =>
        type?.Name == name && type.ContainingNamespace is { Name: nameof(MatFormer), ContainingNamespace.IsGlobalNamespace: true };

    public static bool IsTensor(ITypeSymbol? type) => type?.Name == "Tensor" && type.ToDisplayString() == "TorchSharp.torch.Tensor";

    /// <summary>Returns true for TorchSharp's optimizers.</summary>
    public static bool IsOptimizer(ITypeSymbol? type)
    {
        for (; type is not null; type = type.BaseType)
        {
            if (type.Name == "Optimizer" && type.ToDisplayString().StartsWith("TorchSharp.", StringComparison.Ordinal)) return true;
        }

        return false;
    }

    /// <summary>Returns the object that a method is called on. For an extension method, this is its first argument.</summary>
    public static IOperation? Receiver(this IInvocationOperation call)
    {
        var receiver = call.Instance
            ?? (call.TargetMethod.IsExtensionMethod ? call.Arguments.FirstOrDefault(a => a.Parameter?.Ordinal == 0)?.Value : null);
        return receiver?.Bare();
    }

    /// <summary>Returns an operation without the conversions around it.</summary>
    public static IOperation Bare(this IOperation operation)
    {
        while (operation is IConversionOperation conversion) operation = conversion.Operand;
        return operation;
    }

    /// <summary>Returns the operation that uses the value of this operation. Conversions and parentheses are skipped.</summary>
    public static IOperation? User(this IOperation operation)
    {
        var user = operation.Parent;
        while (user is IConversionOperation or IParenthesizedOperation) user = user.Parent;
        return user;
    }

    /// <summary>Returns the local variable or parameter that an expression names, or null.</summary>
    public static ISymbol? Variable(this IOperation? operation) => operation?.Bare() switch
    {
        ILocalReferenceOperation local => local.Local,
        IParameterReferenceOperation parameter => parameter.Parameter,
        _ => null,
    };

    /// <summary>Returns the body of the method, lambda or local function that contains an operation.</summary>
    public static IOperation Function(this IOperation operation)
    {
        while (operation is not (IAnonymousFunctionOperation or ILocalFunctionOperation) && operation.Parent is { } parent)
            operation = parent;
        return operation;
    }

    /// <summary>Returns the root operation of the member that contains an operation.</summary>
    public static IOperation Root(this IOperation operation)
    {
        while (operation.Parent is { } parent) operation = parent;
        return operation;
    }

    /// <summary>Returns true if a variable is assigned again after its declaration.</summary>
    public static bool IsAssigned(ISymbol variable, IOperation within) => within.Descendants().Any(operation => operation switch
    {
        IAssignmentOperation assignment => SymbolEqualityComparer.Default.Equals(assignment.Target.Variable(), variable),
        IArgumentOperation { Parameter.RefKind: RefKind.Ref or RefKind.Out } argument =>
            SymbolEqualityComparer.Default.Equals(argument.Value.Variable(), variable),
        _ => false,
    });
}
