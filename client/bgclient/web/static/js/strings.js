// Every text of the page, in English and Chinese.

const TEXTS = {
  en: {
    skip: "Skip to content", site: "Site", api: "API", theme: "Dark mode", onDevice: "On this device",
    title: "Cut people out of photos",
    lead: "At full resolution, with soft edges. Drop as many photos as you like.",
    choose: "Choose photos", camera: "Use the camera", hint: "or drop them here, or paste with Ctrl V",
    privacy: "Photos are cut on this server and not kept.",
    privacyDevice: "Your photos stay here: the network runs in this browser and nothing is sent.",
    work: "Result", before: "Before", after: "After", compare: "Compare before and after",
    retry: "Try again", photos: "Photos", add: "Add photos", settings: "Settings",
    background: "Background", transparent: "Transparent", white: "White", black: "Black", sky: "Mist", sand: "Sand",
    pine: "Pine", ownColor: "Own colour", blur: "Blur", image: "Image", strength: "Strength",
    chooseImage: "Choose an image", noImage: "No image yet", mend: "Touch up", brushKeep: "Keep", brushRemove: "Remove", undo: "Undo", brushSize: "Brush",
    brushHint: "Paint over what is missing or what does not belong. Only that part changes.",
    brushFull: "No more strokes fit; undo some.",
    frame: "Frame", crop: "Crop to the people",
    margin: "Margin", shadow: "Soft shadow", download: "Download PNG", downloadJpeg: "Download JPEG", jpeg: "As JPEG", mainOnly: "Main person only", downloadAll: "Download all (ZIP)",
    restart: "Start over", dropHere: "Drop your photos", cancel: "Cancel", shoot: "Take photo",
    keyTitle: "This server asks for a key", key: "API key", ok: "Continue",
    waiting: "Waiting for its turn", sending: "Sending {percent}%", cutting: "Cutting out",
    loading: "Loading the network", failed: "This did not work", remove: "Remove {name}",
    facts: "{width} × {height} pixels", factsDevice: "{width} × {height} pixels, cut on this device", photoDone: "{name} is cut out", photoFailed: "{name}: {why}",
    allDone: "{done} of {total} photos are cut out", zipping: "Packing {done} of {total}",
    noCamera: "The camera cannot be used: {why}", notImage: "{name} is not a picture", pasted: "pasted",
    unknown_foreground: "Nobody was found in this photo.",
    invalid_file_type: "This kind of file is not read here. Try JPEG, PNG or WebP.",
    damaged_file: "This file is damaged.", file_too_large: "This file is larger than {limit} MB.",
    resolution_too_high: "This photo has too many pixels.", rate_limit_exceeded: "Too many photos at once. Try again in a moment.",
    service_unavailable: "The server is busy. Try again in a moment.", auth_failed: "The key is not right.",
    offline: "The server cannot be reached. Are you online?", tooBig: "This result is too large for this browser.",
  },
  zh: {
    skip: "跳到正文", site: "网站", api: "API", theme: "深色模式", onDevice: "本机处理",
    title: "把照片里的人抠出来",
    lead: "原始分辨率，边缘柔和。可一次放入多张照片。",
    choose: "选择照片", camera: "使用摄像头", hint: "或拖放到这里，或按 Ctrl V 粘贴",
    privacy: "照片在本服务器上处理，不会保留。",
    privacyDevice: "照片不会离开这里：网络在此浏览器中运行，不发送任何内容。",
    work: "结果", before: "原图", after: "结果", compare: "对比原图与结果",
    retry: "重试", photos: "照片", add: "添加照片", settings: "设置",
    background: "背景", transparent: "透明", white: "白色", black: "黑色", sky: "薄雾", sand: "沙色",
    pine: "松绿", ownColor: "自选颜色", blur: "虚化", image: "图片", strength: "强度",
    chooseImage: "选择图片", noImage: "尚未选择图片", mend: "修补", brushKeep: "保留", brushRemove: "移除", undo: "撤销", brushSize: "画笔",
    brushHint: "涂抹缺失的部分，或不应保留的部分；该部分会重新判断。",
    brushFull: "笔画已满，请撤销一些。",
    frame: "画面", crop: "裁剪到人物",
    margin: "边距", shadow: "柔和阴影", download: "下载 PNG", downloadJpeg: "下载 JPEG", jpeg: "保存为 JPEG", mainOnly: "仅保留主要人物", downloadAll: "全部下载 (ZIP)",
    restart: "重新开始", dropHere: "松开以放入照片", cancel: "取消", shoot: "拍照",
    keyTitle: "此服务器需要密钥", key: "API 密钥", ok: "继续",
    waiting: "排队中", sending: "正在发送 {percent}%", cutting: "正在抠图",
    loading: "正在加载网络", failed: "处理失败", remove: "移除 {name}",
    facts: "{width} × {height} 像素", factsDevice: "{width} × {height} 像素，在本机处理", photoDone: "{name} 已完成", photoFailed: "{name}：{why}",
    allDone: "已完成 {done} / {total} 张", zipping: "正在打包 {done} / {total}",
    noCamera: "无法使用摄像头：{why}", notImage: "{name} 不是图片", pasted: "粘贴",
    unknown_foreground: "照片中没有找到人。",
    invalid_file_type: "不支持这种文件，请使用 JPEG、PNG 或 WebP。",
    damaged_file: "文件已损坏。", file_too_large: "文件超过 {limit} MB。",
    resolution_too_high: "照片像素过多。", rate_limit_exceeded: "照片太多，请稍后再试。",
    service_unavailable: "服务器繁忙，请稍后再试。", auth_failed: "密钥不正确。",
    offline: "无法连接服务器，请检查网络。", tooBig: "结果太大，此浏览器无法处理。",
  },
};

let language = "en";

export function t(name, values = {}) {
  const text = TEXTS[language][name] ?? TEXTS.en[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

export const known = (name) => name in TEXTS.en;

export const currentLanguage = () => language;

/** Puts every text of the document into a language: "en" or "zh". */
export function speak(code) {
  language = code in TEXTS ? code : "en";
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = `bgclient · ${t("title")}`;
  for (const node of document.querySelectorAll("[data-i18n]")) node.textContent = t(node.dataset.i18n);
  for (const node of document.querySelectorAll("[data-i18n-label]")) node.setAttribute("aria-label", t(node.dataset.i18nLabel));
}
