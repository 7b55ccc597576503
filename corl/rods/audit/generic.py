"""Words that name so much that they give nothing away, so that a question and its answer may share them."""

GENERIC = frozenset(
    """
    abnormal abnormality absence absent action active activity acute administration adult adverse affected agent agents
    agonist analysis antagonist antibodies antibody associated bilateral biopsy blocker blockers blood candidate
    candidates cause caused causes causing cells central change changes child childhood children chronic class clinical
    combination common complete complication complications condition conditions confirm confirmed confirms congenital
    consistent contraindicated contraindication contraindications control correct count course culture decreased
    deficiency deficient delayed dependent despite develop developed developing develops diagnose diagnosed diagnosis
    diagnostic differential diffuse disease diseases disorder disorders distinguish drugs during dysfunction early
    effect effects elevated elevation enlarged enlargement entity enzyme enzymes episode episodes evaluation every
    examination except exclude expected explain explained explains exposure factor factors failure familial family
    features feature female finding findings first follow following follows function functional gastric general
    generalized genes genetic given gradual group hereditary history however idiopathic imaging impaired increased
    indicated indication induced infant infantile infection infections infectious inflammation inflammatory inherited
    inheritance inhibitor inhibitors injury insufficiency intolerance investigation investigations involved isolated
    juvenile known large lateral level levels likely linked local localized marked measurement mechanism mediated
    medical medication medications medicine member members method moderate molecular mutation mutations negative normal
    occur occurs older onset option options organ organs other others painful partial patient patients peripheral
    person persistent physical plasma point points positive possible predisposing presence present presenting presents
    primary progressive protein proteins provoke range reaction receptor receptors recurrent reduced related relation
    report reported reports resistance resistant response result results reveal reveals right screen screening
    secondary sensitivity serum severe shared shows signs single small smear special specific state states study
    substance sudden suffers suggest suggests supports surgery surgical swelling symptom symptoms syndrome syndromes
    system systemic tests testing therapies therapy these thick third tissue together total treat treated treating
    treatment treatments treats types under unilateral upper urine usual usually value vessel where which while whole
    whose within without would young younger
    """.split()  # noqa: SIM905
)

# Say direction, amount or place; two words that share no more than this share no stem.
PREFIXES = tuple(
    sorted(
        """
        hyper inter intra trans contra extra ultra super multi macro micro retro hetero pseudo tachy brady under
        electro immuno autoimmun ortho counter tetra penta circum infra supra
        """.split(),  # noqa: SIM905
        key=len,
        reverse=True,
    )
)

SMALL_WORDS = frozenset("a an and as at by de for from in of on or the to with without".split())  # noqa: SIM905

GENERIC_ZH = tuple(
    """
    综合征 综合症 病 症 炎 疾病 疾患 障碍 缺乏 缺陷 不足 急性 慢性 亚急性 阳性 阴性 抗体 升高 增高 降低 减低
    增多 减少 增加 增大 肿大 增快 加快 减慢 血清 血浆 血液 尿液 水平 浓度 含量 检测 检查 检验 试验 测定 测试
    筛查 治疗 疗法 药物 用药 药 基因 突变 蛋白 原发性 继发性 遗传性 遗传 先天性 特发性 家族性 进行性 复发性
    持续性 反复 反复发作 发作 患者 病人 症状 体征 疼痛 痛 异常 功能 不全 衰竭 感染 细胞 抑制剂 拮抗剂 激动剂
    阻滞剂 受体 因子 系统 系统性 系统的 全身 全身性 多发性 多发 单侧 双侧 显性 隐性 常染色体 染色体 组织 器官
    机制 并发症 禁忌 禁忌证 副作用 不良反应 危险因素 病因 原因 病原体 影像 影像学 成像 扫描 活检 诊断 鉴别 表现
    临床 典型 最可能 下列 以下 哪项 哪种 哪个 哪一 其中 同时 出现 存在 伴有 具有 可见 提示 导致 引起 使用 应用
    选择 适合 首选 正确 除外 属于 一种 关于 可能 不能 不是 应当 应该 患有 合并 针对 相关 有关 所致 情况 结果
    方法 手术 切除 移植 酶 活性 反应 依赖 诱导 介导 损伤 损害 病变 改变 变化 增生 的 性 型 类 及 和 与 或 在 为
    是 有 无
    """.split()  # noqa: SIM905
)
