"""Chinese: predicates, nouns and frames, with full-width punctuation."""

from collections.abc import Sequence

from corl.rods.graph.schema import NODE_TYPES
from corl.rods.wording.language import Language, phrases, table

_PREDICATES = {
    "has_symptom": (["可表现为{n}", "常出现{n}", "常有{n}"], ["是{n}的症状之一", "常见于{n}", "可随{n}出现"]),
    "has_sign": (
        ["体检可见{n}", "体征包括{n}", "查体时可有{n}"],
        ["是{n}的体征之一", "查体时可见于{n}", "可随{n}见到"],
    ),
    "has_lab_finding": (
        ["化验可见{n}", "化验单上常有{n}", "常伴有{n}"],
        ["是{n}的化验异常之一", "化验时可见于{n}", "可提示{n}"],
    ),
    "has_imaging_finding": (
        ["影像上可见{n}", "影像上表现为{n}", "拍片或扫描常可见{n}"],
        ["是{n}的影像学表现之一", "影像上可见于{n}", "拍片时可提示{n}"],
    ),
    "diagnosed_by": (
        ["可通过{n}诊断", "常借助{n}确诊", "可由{n}查出"],
        ["可用于诊断{n}", "有助于确诊{n}", "可以查出{n}"],
    ),
    "gold_standard_test": (
        ["以{n}为诊断的金标准", "最可靠的确诊手段是{n}", "最终要靠{n}来证实"],
        ["是诊断{n}的金标准", "是确诊{n}最可靠的手段", "最能证实{n}"],
    ),
    "caused_by": (["由{n}引起", "病因是{n}", "起因于{n}"], ["可引起{n}", "是{n}的病因", "可招致{n}"]),
    "caused_by gene": (
        ["由{n}突变引起", "与{n}的变异有关", "起因于{n}的改变"],
        ["突变可引起{n}", "发生变异时可致{n}", "的改变正是{n}的起因"],
    ),
    "caused_by protein": (
        ["由{n}的缺陷引起", "与{n}出现问题有关", "起因于{n}失常"],
        ["存在缺陷时可引起{n}", "出现问题时可致{n}", "失常正是{n}的起因"],
    ),
    "has_mechanism": (
        ["涉及{n}", "道理在于{n}", "背后的机制是{n}"],
        ["是{n}的机制之一", "参与{n}的形成", "可以说明{n}的道理"],
    ),
    "has_mechanism drug": (
        ["通过{n}发挥作用", "靠{n}起效", "起效的道理在于{n}"],
        ["是{n}的作用机制之一", "可以说明{n}为何起效", "是{n}起效的道理"],
    ),
    "has_mechanism drug_class": (
        ["通过{n}发挥作用", "靠{n}起效", "起效的道理在于{n}"],
        ["是{n}的作用机制之一", "可以说明{n}为何起效", "是{n}起效的道理"],
    ),
    "affects_anatomy": (["主要累及{n}", "可损害{n}", "常伤及{n}"], ["是{n}的受累部位", "常被{n}累及", "容易被{n}伤及"]),
    "has_risk_factor": (
        ["危险因素包括{n}", "在有{n}时更易发生", "发病与{n}有关"],
        ["是{n}的危险因素", "会使{n}更易发生", "与{n}的发病有关"],
    ),
    "has_complication": (
        ["可并发{n}", "并发症包括{n}", "日后可出现{n}"],
        ["是{n}的并发症之一", "可继发于{n}", "可在{n}之后出现"],
    ),
    "differential_of": (["需与{n}鉴别", "容易与{n}混淆", "要同{n}区分开"], []),
    "has_subtype": (
        ["亚型包括{n}", "类型中有{n}", "涵盖{n}"],
        ["是{n}的一种亚型", "属于{n}中的一型", "可归在{n}之下"],
    ),
    "inheritance": (
        ["遗传方式为{n}", "在家族中呈{n}", "按{n}传给后代"],
        ["是{n}的遗传方式", "说明{n}怎样在家族中传递", "是{n}传给后代的方式"],
    ),
    "treated_by": (
        ["可用{n}治疗", "治疗手段包括{n}", "可靠{n}改善"],
        ["可用于治疗{n}", "是{n}的治疗手段之一", "有助于改善{n}"],
    ),
    "treated_with_drug": (
        ["可用{n}治疗", "治疗用药包括{n}", "使用{n}有效"],
        ["可用于治疗{n}", "适用于{n}", "对{n}有效"],
    ),
    "prevented_by": (
        ["可通过{n}预防", "在有{n}时较少发生", "可由{n}来防范"],
        ["有助于预防{n}", "可减少{n}的发生", "可以防范{n}"],
    ),
    "in_drug_class": (["属于{n}", "归类为{n}", "是{n}中的一员"], ["包括{n}", "成员中有{n}", "涵盖{n}"]),
    "targets": (["作用于{n}", "以{n}为靶点", "所针对的是{n}"], ["是{n}的作用靶点", "受{n}作用", "正是{n}所针对的"]),
    "contraindicated_in": (
        ["禁用于{n}", "在{n}时不应使用", "遇到{n}须避免使用"],
        ["是使用{n}的禁忌", "存在时不应使用{n}", "存在时须避开{n}"],
    ),
    "has_side_effect": (
        ["不良反应包括{n}", "可引起{n}等不良反应", "用后可能出现{n}"],
        ["是{n}的不良反应之一", "可由{n}诱发", "可能在用{n}之后出现"],
    ),
    "interacts_with": (["与{n}存在相互作用", "不宜随意与{n}合用", "同{n}合用时会彼此影响"], []),
    "metabolised_by": (["由{n}代谢", "经{n}分解", "靠{n}清除"], ["负责代谢{n}", "可分解{n}", "可清除{n}"]),
    "in_specialty": (["由{n}诊治", "属于{n}的范围", "归{n}管"], ["负责诊治{n}", "的范围包括{n}", "管的是{n}"]),
}

_NOUNS = {
    "disease": ["疾病", "病症", "情况"],
    "symptom": ["症状", "不适"],
    "sign": ["体征", "表现"],
    "lab_test": ["化验", "检验项目"],
    "lab_finding": ["化验异常", "检验结果"],
    "imaging": ["影像学检查", "扫描"],
    "imaging_finding": ["影像学表现", "图像特征"],
    "drug": ["药物", "用药"],
    "drug_class": ["药物类别", "一类用药"],
    "procedure": ["操作", "手段"],
    "gene": ["基因"],
    "protein": ["蛋白", "分子"],
    "pathogen": ["病原体", "致病微生物"],
    "mechanism": ["机制", "过程"],
    "anatomy": ["部位", "结构"],
    "risk_factor": ["危险因素", "情形"],
    "specialty": ["专科", "科室"],
    "condition": ["情况", "问题"],
    "finding": ["表现"],
    "thing": ["事物"],
}
_ASKING = {
    "disease": ["下列哪种疾病", "下列哪种病症"],
    "symptom": ["下列哪种症状", "下列哪种不适"],
    "sign": ["下列哪种体征", "下列哪种表现"],
    "lab_test": ["下列哪项化验", "下列哪个检验项目"],
    "lab_finding": ["下列哪种化验异常", "下列哪种检验结果"],
    "imaging": ["下列哪项影像学检查", "下列哪种扫描"],
    "imaging_finding": ["下列哪种影像学表现", "下列哪种图像特征"],
    "drug": ["下列哪种药物", "下列哪种用药"],
    "drug_class": ["下列哪类药物", "下列哪类用药"],
    "procedure": ["下列哪种操作", "下列哪种手段"],
    "gene": ["下列哪个基因"],
    "protein": ["下列哪种蛋白", "下列哪种分子"],
    "pathogen": ["下列哪种病原体", "下列哪种致病微生物"],
    "mechanism": ["下列哪种机制", "下列哪种过程"],
    "anatomy": ["下列哪个部位", "下列哪个结构"],
    "risk_factor": ["下列哪项危险因素", "下列哪种情形"],
    "specialty": ["下列哪个专科", "下列哪个科室"],
    "condition": ["下列哪种情况", "下列哪种问题"],
    "thing": ["下列哪一项"],
}

_FRAMES = {
    "intro": [
        "某{noun}{clues}。",
        "已知某{noun}{clues}。",
        "设想某{noun}：它{clues}。",
        "有这样一种{noun}：{clues}。",
        "关于某{noun}，已知它{clues}。",
    ],
    "named": [
        "已知{x}{clues}。",
        "在这里，{x}{clues}。",
    ],
    "star": [
        "{which}{clues}？",
        "某{noun}{clues}。它是{which}？",
        "已知：{clues}。{which}与此全部相符？",
        "有这样一种{noun}：{clues}。所指的是{which}？",
        "{which}符合以下描述：{clues}？",
    ],
    "tail": [
        "{which}{ask}？",
        "在各选项中，{which}{ask}？",
        "就目前所知，{which}{ask}？",
        "请选出符合者：{which}{ask}？",
    ],
    "compare": [
        "它容易被误认为{b}。{which}{ask}，并有助于同{b}区分？",
        "{b}与之有相似之处，但并非所指。{which}{ask}，而与{b}无关？",
        "此处所指并不是与之相像的{b}。{which}{ask}？",
        "它与{b}相像而并不相同。{which}{ask}，并能把两者分开？",
    ],
    "exception": [
        "除一项外，下列各项都{ask}。{which}是例外？",
        "各选项中只有一项不符合“{ask}”这一说法，是{which}？",
        "除一项外，其余各项都符合“{ask}”。不符合的是{which}？",
        "以下说法对其余各项都成立，唯独对一项不成立：{ask}。这是{which}？",
    ],
    "constraint": [
        "排除凡是{out}的选项，{which}{ask}？",
        "凡是{out}的都不考虑。{which}{ask}？",
        "{which}{ask}，同时又不属于“{out}”之列？",
        "先去掉{out}的选项。其余之中，{which}{ask}？",
    ],
}


def join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{'、'.join(names[:-1])}和{names[-1]}"


CHINESE = Language(
    code="zh",
    predicates=table(_PREDICATES),
    nouns={kind: phrases(_NOUNS[kind]) for kind in (*NODE_TYPES, "finding", "thing")},
    asking={kind: phrases(_ASKING[kind]) for kind in (*NODE_TYPES, "thing")},
    frames={name: phrases(texts) for name, texts in _FRAMES.items()},
    join_names=join_names,
    join_clauses="，".join,
    relative=lambda noun, clauses: f"{clauses}的{noun}",
    this=lambda noun: f"该{noun}",
    some=lambda noun: f"某{noun}",
)
