using MatFormer;

return await ModelProgram.RunAsync<DigitsViT>(args);
