"""Words that name so much that a question and its answer may share them."""

import re

GENERIC = frozenset(
    """
    abnormal abnormality absent active activity acute adverse agent agents antagonist antibodies antibody
    associated biopsy blocker blockers blood cause caused causes cells central change changes chronic class
    clinical complication complications condition conditions confirmed congenital contraindicated contraindication
    control course culture decreased deficiency deficient diagnose diagnosed diagnosis diagnostic differential
    diffuse disease diseases disorder disorders drug drugs dysfunction early effect effects elevated elevation
    enlarged enzyme enzymes episodes examination exposure factor factors failure familial family features finding
    findings following function gene general generalized genes genetic group hereditary history idiopathic imaging
    impaired increased infection infections inflammation inflammatory inherited inheritance inhibitor inhibitors
    injury insufficiency isolated level levels mechanism medical medicine mutation mutations negative normal
    option options organ pain patient patients peripheral positive primary progressive protein proteins reaction
    receptor receptors recurrent reduced response result results screening secondary sensitivity serum severe
    signs small smear specific states study sudden surgery surgical swelling symptom symptoms syndrome syndromes
    system systemic test testing tests therapy tissue treat treated treatment treatments upper urine usually value
    vessel
    """.split()  # noqa: SIM905
)
# Say direction, amount or place; none begins as another does.
PREFIXES = tuple("hyper inter intra trans contra extra ultra super multi macro micro pseudo tachy brady".split())  # noqa: SIM905
_WORDS_ZH = """
    综合征 综合症 疾病 障碍 缺乏症 缺乏 缺陷 不足 急性 亚急性 慢性 阳性 阴性 抗体 升高 增高 降低 增多
    减少 增加 增大 肿大 血清 血浆 血液 水平 检测 检查 检验 试验 测定 筛查 治疗 疗法 药物 基因 突变 蛋白
    原发性 继发性 遗传性 遗传 先天性 特发性 家族性 进行性 复发性 持续性 反复发作 发作 患者 症状 体征
    疼痛 异常 功能 不全 衰竭 感染 细胞 抑制剂 拮抗剂 激动剂 阻滞剂 受体 因子 系统性 系统 全身性 全身
    多发性 多发 显性 隐性 常染色体 染色体 组织 机制 并发症 禁忌 不良反应 危险因素 病因 影像学 影像 扫描
    活检 手术 切除 移植 损伤 病变 改变 增生
    """.split()  # noqa: SIM905
# What stands between these is compared; 病, 症 and 炎 count as generic at the end of a piece only.
GENERIC_ZH = re.compile(
    "|".join(sorted(_WORDS_ZH, key=len, reverse=True)) + "|[病症炎]+$|[病症炎](?=的|与|和|或|及|性)"
)
