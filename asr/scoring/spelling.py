"""British spellings and the American ones: stems with their endings, and single words."""

from __future__ import annotations

import re
from functools import cache

# Each set of stems takes all its endings. Some combinations are no words, and do no harm.
_PREFIXES = "un dis re mis multi over de pre non be out under"
_OUR = """
arb ard arm behavi cand clam clang col demean discol enam endeav fav ferv flav harb hon hum lab
misdemean neighb od parl ranc rig rum sav savi splend succ tum val vap vig watercol
"""
_OUR_ENDINGS = """
s ed eds ing er ers ful fully less able ably al ant ants ism ite ites itism ist ists y ies ings hood hoods
ize izes ized izing ly liness ation fulness some someness men man bearer
"""
_ISE = """
accessor acclimat actual aggrand agon alphabet american amort anaesthet anglic annual antagon apolog
appet arbitrar author bapt bastard bowdler brutal burglar canal cannibal canon capital caramel
carbon categor catheter cauter caution central character christian circular civil collectiv colon
commercial commun compartmental computer conceptual contextual criminal critic crystal crystall
custom decentral decimal demilitar democrat demon demoral denational deodor deput desensit destabil
dichotom digit dramat econom editorial empath emphas energ epitom equal erot eternal eulog euphem
evangel exorc extempor external factor familiar fantas feder femin feminin fertil fictional final
formal fossil fratern galvan general ghetto glamor global harmon homogen hospital human hybrid
hydrogen hypnot hypothes ideal ideolog idol immobil immortal immun impersonal individual industrial
initial institutional intellectual internal international ion ital italic item jeopard journal
labial legal legitim liberal lion liquid local magnet marginal material maxim mechan memor memorial
merchand mesmer metabol method militar miniatur minim mobil modern modular moistur monopol moral
motor mythic narrat national natural neutral nominal normal notar novel optim organ ostrac oxid
oxygen particular passiv pasteur patron pedestrian penal personal philosoph plagiar polar polit
politic popular pressur prior priorit privat professional proletarian propagand proselyt psychoanal
public pulver radical random rational real recogn regional regular reorgan revital revolution
rhapsod ritual romant romantic rubber sanit satir scandal scrutin secular sensational sensit
sentimental serial sermon sexual signal social sodom solemn special stabil standard steril stigmat
structural subsid summar symbol sympath synchron synthes system systemat tantal tempor temporal
tender terror theor total tranquill transistor traumat trivial tyrann urban util vandal vapor verbal
victim visual vital vocal vulcan vulgar western woman
"""
_ISE_ENDINGS = "e es ed ing ingly er ers ation ations able ably ational ationally ance ement"
_YSE = "anal breathal catal dial electrol hydrol paral psychoanal"
_RE = """
accout amphitheat calib cent centilit centimet epicent fib goit kilolit kilomet lit lust meag met
micromet millilit millimet mit nit och philt reconnoit sab salpet saltpet sceptr sepulch somb spect
theat tit
"""
_DOUBLED = """
apparel backpedal barrel bedevil bejewel bevel cancel carol cavil channel chisel counsel cudgel dial
disembowel dishevel drivel duel enamel equal flannel fuel funnel gambol gravel grovel gruel impanel
imperil initial jewel kennel label level libel marshal marvel medal model panel parcel pedal pencil
peril pummel quarrel ravel refuel remodel revel rival shovel shrivel signal snivel snorkel spiral
squirrel stencil swivel tassel total towel travel trial trowel tunnel unravel untrammel victual
weasel yodel
"""
_OGUE = "anal catal dial epil homol monol prol travel"
_AE = """
aeon aestivat aetiolog amoeba anaemi anaesthe archaeo archaeolog bougainvillaea caesarea chimaera
coeliac diarrhoea encyclopaed faecal faece foetal foetid foetus gonorrhoea gynaeco haemat haemo
homoeopath ischaemi leukaemi mediaeval oedema oesophag oestrogen oestrus orthopaed paederast
paediatr paedophil palaeo pharmacopoeia primaeval septicaemi toxaemi
"""
# Words that are British in some senses only (axe, grille, story, whisky, vice) stay as they are.
_OTHER = """
acknowledgement acknowledgment| aerogramme aerogram| aeroplane airplane| ageing aging|
almanack almanac| aluminium aluminum| appal appall| appals appalls| artefact artifact|
bannister banister| baulk balk| baulked balked| baulking balking| behove behoove| behoved behooved|
behoves behooves| biassed biased| calliper caliper| cancelation cancellation|
carburettor carburetor| catalogued cataloged| cataloguing cataloging| centrefold centerfold|
centrepiece centerpiece| cheque check| chequebook checkbook| chequered checkered| chilli chili|
clarinettist clarinetist| connexion connection| cosier cozier| cosies cozies| cosiest coziest|
cosily cozily| cosiness coziness| cosy cozy| councillor councilor| counsellor counselor|
crueller crueler| cruellest cruelest| cypher cipher| defence defense| defenceless defenseless|
diarise diarize| distil distill| distils distills| doughnut donut| draught draft|
draughtsman draftsman| draughtsmen draftsmen| draughty drafty| enquire inquire| enquired inquired|
enquirer inquirer| enquiries inquiries| enquiring inquiring| enquiry inquiry| enrol enroll|
enrolment enrollment| enrols enrolls| enthral enthrall| enthrals enthralls| epaulette epaulet|
fibreglass fiberglass| flautist flutist| focussed focused| focusses focuses| focussing focusing|
fulfil fulfill| fulfilment fulfillment| fulfils fulfills| gaol jail| gaoled jailed| gaoler jailer|
glueing gluing| gramme gram| grey gray| greyed grayed| greyer grayer| greyest grayest|
greying graying| greyish grayish| greyness grayness| greys grays| inflexion inflection|
initialled initialed| instal install| instalment installment| instil instill| instils instills|
jeweller jeweler| jewellery jewelry| judgement judgment| kerb curb| kerbside curbside|
kilogramme kilogram| lacklustre lackluster| libellous libelous| licence license| licenced licensed|
licencing licensing| likeable likable| liquorice licorice| manoeuvrability maneuverability|
manoeuvrable maneuverable| manoeuvre maneuver| manoeuvred maneuvered| manoeuvring maneuvering|
marvellous marvelous| marvellously marvelously| maths math| milligramme milligram|
misspelt misspelled| mollusc mollusk| mould mold| moulded molded| moulding molding|
mouldings moldings| mouldy moldy| moult molt| moulted molted| moulting molting| moustache mustache|
moustached mustached| moustachioed mustachioed| mum mom| offence offense| omelette omelet|
outmanoeuvre outmaneuver| outmanoeuvred outmaneuvered| paediatrician pediatrician|
panellist panelist| phoney phony| plough plow| ploughed plowed| ploughing plowing|
ploughman plowman| ploughshare plowshare| practise practice| practised practiced|
practising practicing| pretence pretense| programme program| programmes programs| pyjama pajama|
pyjamas pajamas| reflexion reflection| remould remold| routeing routing| sceptic skeptic|
sceptical skeptical| sceptically skeptically| scepticism skepticism| skilful skillful|
skilfully skillfully| smoulder smolder| smouldered smoldered| smouldering smoldering|
snowplough snowplow| storey story| storeys stories| sulphate sulfate| sulphide sulfide|
sulphur sulfur| sulphuric sulfuric| sulphurous sulfurous| syphon siphon| technicolour technicolor|
theatregoer theatergoer| tranquillity tranquility| tranquillize tranquilize|
tranquillizer tranquilizer| tricolour tricolor| tyre tire| tyres tires| unequalled unequaled|
unrivalled unrivaled| waggon wagon| wilful willful| wilfully willfully| woollen woolen|
woolly wooly| worshipped worshiped| worshipper worshiper| worshipping worshiping| yoghourt yogurt|
yoghurt yogurt
"""


@cache
def spellings() -> dict[str, str]:
    """Return American spellings by British ones, in lower case."""
    found: dict[str, str] = {}
    for stem in _OUR.split():
        for prefix in ("", *_PREFIXES.split()):
            for ending in ("", *_OUR_ENDINGS.split()):
                found[f"{prefix}{stem}our{ending}"] = f"{prefix}{stem}or{ending}"
    for stem in _ISE.split():
        for prefix in ("", *_PREFIXES.split()):
            for ending in _ISE_ENDINGS.split():
                found[f"{prefix}{stem}is{ending}"] = f"{prefix}{stem}iz{ending}"
    for stem in _YSE.split():
        for ending in ("e", "ed", "er", "ers", "ing"):
            found[f"{stem}ys{ending}"] = f"{stem}yz{ending}"
    for stem in _RE.split():
        found |= {f"{stem}re{s}": f"{stem}er{s}" for s in ("", "s")}
        found |= {f"{stem}red": f"{stem}ered", f"{stem}ring": f"{stem}ering"}
    for stem in _DOUBLED.split():
        found |= {f"{stem}l{s}": f"{stem}{s}" for s in ("ed", "ing", "er", "ers", "ings")}
    for stem in _OGUE.split():
        found |= {f"{stem}ogue{s}": f"{stem}og{s}" for s in ("", "s", "d")}
    for pair in _OTHER.split("|"):
        british, american = pair.split()
        found[british] = american
        if not british.endswith(("s", "ed", "ing", "y", "ful")):
            found.setdefault(f"{british}s", f"{american}s")
    return found


@cache
def ae_stems() -> re.Pattern[str]:
    """Return a pattern that finds the beginnings of words whose ae or oe Americans write e."""
    return re.compile(rf"\b(?:{'|'.join(_AE.split())})")
