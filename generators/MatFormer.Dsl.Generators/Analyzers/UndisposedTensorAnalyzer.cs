using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace MatFormer.Generators.Analyzers;

/// <summary>
/// Finds tensors that a model returns in a loop and that nothing disposes. It reports only certain cases: the tensor is dropped, is used
/// only by TorchSharp's operations, or is in a variable of the loop that is not passed on.
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class UndisposedTensorAnalyzer : DiagnosticAnalyzer
{
    private static readonly ImmutableHashSet<string> s_methods =
        ["forward", "Forward", "call", "Loss", "Losses", "JointLosses", "DistilledLosses"];

    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [MisuseDescriptors.NotDisposed];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(Analyze, OperationKind.Invocation);
    }

    private static void Analyze(OperationAnalysisContext context)
    {
        var call = (IInvocationOperation)context.Operation;
        if (!s_methods.Contains(call.TargetMethod.Name)
            || !Operations.IsTensor(call.Type)
            || !Operations.IsModel(call.Receiver()?.Type)
            || !IsRepeated(call)
            || IsKept(call))
        {
            return;
        }

        var method = call.TargetMethod.Name;
        var name = method is "forward" or "Forward" or "call" ? "logits" : method is "Loss" ? "loss" : "losses";
        if (call.User() is IVariableInitializerOperation { Parent: IVariableDeclaratorOperation declarator }) name = declarator.Symbol.Name;
        context.ReportDiagnostic(Diagnostic.Create(MisuseDescriptors.NotDisposed, call.Syntax.GetLocation(), method, name));
    }

    // True in the body of a loop, if no scope in the member could dispose the tensors that are created there.
    private static bool IsRepeated(IOperation call)
    {
        var inLoop = false;
        for (var operation = call; operation.Parent is { } parent; operation = parent)
        {
            if (operation is IAnonymousFunctionOperation or ILocalFunctionOperation) break;
            inLoop |= parent is ILoopOperation loop && loop.Body == operation;
        }

        return inLoop && !call.Root().Descendants().Any(operation =>
            operation is IInvocationOperation { TargetMethod.Name: "NewDisposeScope" or "WrappedTensorDisposeScope" });
    }

    // True if the tensor is disposed, or passed to code that may dispose it.
    private static bool IsKept(IOperation value)
    {
        if (value.User() is not IVariableInitializerOperation { Parent: IVariableDeclaratorOperation declarator })
            return !IsDropped(value) && !IsOperand(value);
        if (declarator.Parent?.Parent?.Parent is IUsingDeclarationOperation or IUsingOperation) return true;
        return value.Root().Descendants()
            .OfType<ILocalReferenceOperation>()
            .Where(use => SymbolEqualityComparer.Default.Equals(use.Local, declarator.Symbol))
            .Any(use => use.Function() != value.Function() || !IsOperand(use));
    }

    private static bool IsDropped(IOperation value) =>
        value.User() is IExpressionStatementOperation
            or ISimpleAssignmentOperation { Target: IDiscardOperation, Parent: IExpressionStatementOperation };

    // True if one of TorchSharp's operations reads the tensor. Such an operation does not keep the tensor.
    private static bool IsOperand(IOperation value) => value.User() switch
    {
        IInvocationOperation { TargetMethod: var method } call when call.Instance?.Bare() == value =>
            Operations.IsTensor(method.ContainingType) && !TakesCare(method.Name),
        IPropertyReferenceOperation { Instance: { } instance, Member: var property } =>
            instance.Bare() == value && Operations.IsTensor(property.ContainingType),
        IArgumentOperation { Parent: IInvocationOperation { TargetMethod.ContainingType: var type } call } argument =>
            !(call.TargetMethod.IsExtensionMethod && argument.Parameter?.Ordinal == 0) && (Operations.IsTensor(type) || IsFunctions(type)),
        IBinaryOperation { OperatorMethod: not null } => true,
        IUnaryOperation { OperatorMethod: not null } => true,
        _ => false,
    };

    private static bool TakesCare(string method) =>
        method == "Dispose"
        || method.StartsWith("MoveTo", StringComparison.Ordinal)
        || method.EndsWith("FromDisposeScope", StringComparison.Ordinal);

    private static bool IsFunctions(ITypeSymbol type) => type.ToDisplayString() is "TorchSharp.torch" or "TorchSharp.torch.nn.functional";
}
