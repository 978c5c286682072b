"""The look of a report: light, dark and on paper; colours of Okabe and Ito (2008)."""

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1a1a1a;--soft:#595959;--rule:#c8c8c8;
--panel:#f4f6f8;--a:#0072b2;--b:#b34700;--c:#00795a;--bad:#a3003d}
@media (prefers-color-scheme:dark){:root{--page:#15181c;--ink:#eceff1;--soft:#b0b8bf;
--rule:#424a52;--panel:#1f242a;--a:#56b4e9;--b:#e69f00;--c:#2ecf9f;--bad:#ff8fb0}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);
max-width:66rem;margin:0 auto;padding:1.5rem 1rem}
h1{font-size:1.7rem;margin:0}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;
border-bottom:2px solid var(--rule)}h3{font-size:1rem;margin:1.2rem 0 .4rem}
p,ul{margin:.5rem 0;max-width:52rem}small,.missing,.soft{color:var(--soft)}
code,.hash{font-family:ui-monospace,monospace;font-size:.85em;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{border-top:1px solid var(--rule);padding:.35rem .6rem .35rem 0;text-align:left;
vertical-align:top;overflow-wrap:break-word}
.scrolls{overflow-x:auto}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:.8rem;
margin:1rem 0}
.card{background:var(--panel);border:1px solid var(--rule);border-radius:.5rem;padding:.8rem}
.card b{display:block;font-size:1.7rem;line-height:1.2}.card span{font-size:.85rem}
.card small{display:block;font-size:.75rem;line-height:1.3;margin-top:.3rem}
#summary{border-left:.4rem solid var(--a);padding:.4rem .8rem;background:var(--panel);max-width:none}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}
figure{margin:0}section>figure{max-width:36rem}#picture-parties{max-width:none;
overflow-x:auto}#picture-parties svg{min-width:38rem}figcaption{font-size:.9rem;font-weight:600;margin-bottom:.3rem}
.picture figcaption{font-weight:normal;color:var(--soft)}svg{width:100%;height:auto;display:block}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .head{font-weight:bold;font-size:14px}
.grid{stroke:var(--rule)}.limit{stroke:var(--bad);stroke-width:2;stroke-dasharray:2 4}
.line{fill:none;stroke-width:2.2}.line.style0{stroke:var(--a)}
.line.style1{stroke:var(--b);stroke-dasharray:7 4}.line.style2{stroke:var(--c);
stroke-dasharray:2 3}.mark.style0{fill:var(--a)}.mark.style1{fill:var(--b)}
.mark.style2{fill:var(--c)}.box{fill:var(--panel);stroke:var(--rule);stroke-width:1.5}
.arrow{stroke:var(--ink);stroke-width:1.5;fill:none}.tip{fill:var(--ink)}
.warning{border-left:.4rem solid var(--bad);padding:.4rem .8rem;background:var(--panel)}
.picture{max-width:20rem!important;margin:1rem 0}img{width:100%;image-rendering:pixelated}
@media print{:root{color-scheme:light;--page:#fff;--ink:#000;--soft:#444;--rule:#bbb;
--panel:#fff;--a:#0072b2;--b:#b34700;--c:#00795a;--bad:#a3003d}
@page{margin:12mm}body{font-size:8.5pt;line-height:1.35;max-width:none;padding:0}
h1{font-size:15pt}h2{font-size:11pt;margin:10pt 0 3pt}h3{font-size:9pt;margin:6pt 0 2pt}
p,ul{margin:3pt 0;max-width:none}table{font-size:8pt}th,td{padding:1.5pt 6pt 1.5pt 0}
.cards{display:flex;gap:6pt;margin:6pt 0}.card{flex:1;padding:4pt 6pt}.card b{font-size:13pt}
.card span{font-size:8pt}.card small{font-size:7pt}figcaption{font-size:8pt}
.figures{grid-template-columns:repeat(3,1fr);gap:8pt}.pair{grid-template-columns:1fr 1fr}
figure,.card,tr,li{break-inside:avoid}
h2,h3{break-after:avoid}.scrolls,#picture-parties{overflow:visible}
#picture-parties{max-width:14cm}#picture-parties svg{min-width:0}
details:not([open]){display:none}.warning,#summary{padding:2pt 6pt}.picture{max-width:5cm!important;margin:6pt 0}}
"""
