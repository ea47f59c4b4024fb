using MatFormer;

ImageFiles.Register(); // classify and --data read PNG, JPEG and WebP
return await ModelProgram.RunAsync<DigitsViT>(args);
