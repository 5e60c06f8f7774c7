/**
 * 简体中文：引擎与其选项。The server describes engines and options in English; what stands here replaces it, by name.
 * A new option needs no entry: it is shown in English until someone adds one.
 */

export const zhEngines: Record<string, string> = {
  adain: "交换深层特征的均值与方差，一次前馈即可画出任意风格",
  brush: "一次前馈即可画出任意风格，使用内置权重",
  diffusion: "小型潜空间扩散模型：画面从噪声中生成，风格在其注意力中",
  gatys: "反复优化画面，直到编码器看到照片的形状和画作的笔触",
  johnson: "每种风格一个小网络，用你自己的图片训练",
  latent: "你自己的 Stable Diffusion 1.5 或 XL 模型：在其注意力中注入风格，或用提示词",
  "local-mobile": "手机版 local：更小的编码器与解码器",
  local: "注意力：每个位置取用风格图中与之相似处的颜色与笔触",
  quilt: "用 PatchMatch 由粗到细拼接风格图中的整块纹理",
};

export const zhSettings: Record<string, { title: string; help: string }> = {
  mix_mode: { title: "混合方式", help: "多种风格如何平均：直线，或沿编码球面" },
  size: { title: "长边", help: "结果的长边；默认与照片相同" },
  seed: { title: "随机种子", help: "使用随机数的引擎的种子" },
  tile: { title: "分块大小", help: "长边更大的图片按大约此尺寸分块绘制" },
  steps: { title: "步数", help: "从噪声到图片的步数：12 到 25；更少时平坦处会出现鳞纹" },
  guidance: { title: "引导", help: "把网络推向风格的程度；1 为网络自身的想法" },
  start: { title: "起始噪声", help: "1 只通过提示了解照片，更小则从照片开始" },
  light: { title: "明暗", help: "保持照片明暗与边缘的程度；0 全交给风格" },
  temperature: { title: "温度", help: "使用多少噪声：1 与训练时相同，更小更平静，0 不用" },
  sampler: { title: "采样器", help: "dpm-solver++、ddim，或步数更多、每步加新噪声的 ddpm" },
  iterations: { title: "迭代次数", help: "在最精细尺寸上重复的次数" },
  loss: { title: "损失", help: "与风格比较什么" },
  optimizer: { title: "优化器", help: "adam，或论文所用的 lbfgs" },
  content_weight: { title: "内容权重", help: "照片的形状相对于风格的分量" },
  content: { title: "内容", help: "保留哪些形状" },
  smooth_weight: { title: "平滑权重", help: "总变差的权重：减少噪点，但会模糊线条" },
  learning_rate: { title: "学习率", help: "Adam 的学习率，以像素取值范围为单位" },
  average: { title: "平均", help: "迭代结果滑动平均的记忆；0 取最后一次" },
  init: { title: "起点", help: "最小尺寸从什么开始" },
  smallest: { title: "最小尺寸", help: "金字塔最小一层的长边" },
  encoder: { title: "编码器", help: "用来“看”的网络" },
  style_layers: { title: "风格层", help: "比较风格的层，用逗号分隔；留空用默认" },
  content_layers: { title: "内容层", help: "保留内容的层，同样写法" },
  memory: { title: "内存", help: "不超过的内存；默认使用大部分空闲内存" },
  device: { title: "设备", help: "在哪里计算；auto 会在有加速器时使用它" },
  precision: { title: "精度", help: "计算精度" },
  patch: { title: "图块大小", help: "各尺度上图块的边长：5 或 7" },
  structure: { title: "结构", help: "明暗跟随照片的程度" },
  detail: { title: "细节", help: "图块沿边缘跟随照片的程度" },
  hue: { title: "色相", help: "照片的颜色在多大程度上决定使用画作的哪些颜色" },
  direction: { title: "方向", help: "笔触跟随照片边缘方向的程度" },
  tones: { title: "色调", help: "0 保留照片的色调间距，1 使用画作的全部色调" },
  uniformity: { title: "均匀", help: "画作各部分被同等使用的程度" },
  coarsest: { title: "最粗尺度", help: "最粗一层的短边；更小会重新安排更大的部分" },
};
