using Microsoft.AspNetCore.Http;

namespace MatFormer;

/// <summary>Refuses a request with a status and an error message.</summary>
/// <param name="status">The HTTP status.</param>
/// <param name="message">What is wrong and what to do.</param>
/// <param name="named">The name of the field at fault, if there is one.</param>
/// <param name="code">An error code for programs.</param>
internal sealed class ApiException(int status, string message, string? named = null, string? code = null) : Exception(message)
{
    public int Status => status;

    public string? Field => named;

    public string? Code => code;

    public int? RetryAfterSeconds { get; init; }

    public ErrorResponse Response => new(new ErrorDetail(Message, TypeOf(status), named, code));

    /// <summary>Returns the error for a malformed request: invalid JSON, an unknown or missing field, or a wrong type.</summary>
    public static ApiException Malformed(string message, string? field = null) =>
        new(StatusCodes.Status400BadRequest, message, field, "invalid_request");

    /// <summary>Returns the error for a request that is understood but cannot be carried out.</summary>
    public static ApiException Impossible(string message, string field, string code = "invalid_value") =>
        new(StatusCodes.Status422UnprocessableEntity, message, field, code);

    private static string TypeOf(int status) => status switch
    {
        StatusCodes.Status401Unauthorized => "authentication_error",
        StatusCodes.Status429TooManyRequests => "rate_limit_error",
        >= 500 => "server_error",
        _ => "invalid_request_error",
    };
}
